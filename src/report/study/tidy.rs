//! A row for each cell, candidate and metric, as CSV and Parquet: for statistics and plots of one's own.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use crate::report::{Candidate, Report};

/// Columns of one length, each with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Tidy {
    columns: Vec<(String, Column)>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    Text(Vec<Option<String>>),
    Number(Vec<Option<f64>>),
    Count(Vec<Option<i64>>),
}

/// One finished cell.
pub struct Cell<'r> {
    pub name: &'r str,
    pub group: &'r str,
    pub seed: u64,
    /// By axis of the grid, what it set.
    pub at: &'r [(String, String)],
    pub report: &'r Report,
}

impl Tidy {
    /// Every number of these cells; they have the same axes.
    pub fn of(cells: &[Cell<'_>]) -> Self {
        let all: Vec<_> = cells
            .iter()
            .flat_map(|cell| cell.report.candidates.iter().map(move |candidate| (cell, candidate)))
            .flat_map(|(cell, candidate)| {
                candidate.metrics.iter().map(move |metric| (cell, candidate, metric))
            })
            .collect();
        macro_rules! column {
            ($kind:ident, $value:expr) => {
                Column::$kind(all.iter().map($value).collect())
            };
        }
        let word = |value: serde_json::Value| value.as_str().map(str::to_owned);
        let count = |n: usize| Some(n as i64);
        let of_candidate = |candidate: &Candidate| candidate.method.clone();
        let mut columns = vec![
            ("cell".to_owned(), column!(Text, |(cell, ..)| Some(cell.name.to_owned()))),
            ("group".to_owned(), column!(Text, |(cell, ..)| Some(cell.group.to_owned()))),
            ("seed".to_owned(), column!(Count, |(cell, ..)| Some(cell.seed as i64))),
        ];
        for (nth, (axis, _)) in cells.first().map_or(&[][..], |cell| cell.at).iter().enumerate() {
            columns.push((
                axis.clone(),
                column!(Text, |(cell, ..)| cell.at.get(nth).map(|(_, value)| value.clone())),
            ));
        }
        columns.extend([
            ("candidate".to_owned(), column!(Text, |(_, candidate, _)| Some(candidate.name.clone()))),
            ("method".to_owned(), column!(Text, |(_, candidate, _)| of_candidate(candidate))),
            ("lambda".to_owned(), column!(Number, |(_, candidate, _)| candidate.lambda)),
            ("suite".to_owned(), column!(Text, |(_, _, metric)| Some(metric.suite.clone()))),
            ("metric".to_owned(), column!(Text, |(_, _, metric)| Some(metric.metric.clone()))),
            ("kind".to_owned(), column!(Text, |(_, _, metric)| word(json!(metric.kind)))),
            ("judge".to_owned(), column!(Text, |(_, _, metric)| metric.judge.clone())),
            ("denominator".to_owned(), column!(Text, |(_, _, metric)| word(json!(metric.denominator)))),
            ("category".to_owned(), column!(Text, |(_, _, metric)| metric.category.clone())),
            ("value".to_owned(), column!(Number, |(_, _, metric)| metric.value)),
            ("k".to_owned(), column!(Count, |(_, _, metric)| metric.k.and_then(count))),
            ("n".to_owned(), column!(Count, |(_, _, metric)| count(metric.n))),
            ("unscored".to_owned(), column!(Count, |(_, _, metric)| count(metric.unscored))),
            ("low".to_owned(), column!(Number, |(_, _, metric)| metric.low)),
            ("high".to_owned(), column!(Number, |(_, _, metric)| metric.high)),
        ]);
        Self { columns }
    }

    fn len(&self) -> usize {
        match self.columns.first() {
            Some((_, Column::Text(values))) => values.len(),
            _ => 0,
        }
    }

    /// The table as CSV, with a header; what is absent is empty.
    pub fn csv(&self) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = self.columns.iter().map(|(name, _)| name.as_str());
        writer.write_record(names).expect("writing to memory cannot fail");
        for nth in 0..self.len() {
            let cell = |(_, column): &(String, Column)| match column {
                Column::Text(values) => values[nth].clone().unwrap_or_default(),
                Column::Number(values) => values[nth].map(|x| x.to_string()).unwrap_or_default(),
                Column::Count(values) => values[nth].map(|n| n.to_string()).unwrap_or_default(),
            };
            writer.write_record(self.columns.iter().map(cell)).expect("writing to memory cannot fail");
        }
        writer.into_inner().expect("writing to memory cannot fail")
    }

    /// The table as a Parquet file with one row group.
    ///
    /// # Errors
    ///
    /// The library refuses.
    pub fn parquet(&self) -> Result<Vec<u8>, ParquetError> {
        let field = |(nth, (_, column)): (usize, &(String, Column))| match column {
            Column::Text(_) => format!("OPTIONAL BYTE_ARRAY c{nth} (UTF8);"),
            Column::Number(_) => format!("OPTIONAL DOUBLE c{nth};"),
            Column::Count(_) => format!("OPTIONAL INT64 c{nth};"),
        };
        let fields: String = self.columns.iter().enumerate().map(field).collect();
        let schema = parse_message_type(&format!("message rows {{ {fields} }}"))?;
        let schema = renamed(&schema, &self.columns)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
        let mut rows = writer.next_row_group()?;
        for (_, column) in &self.columns {
            let mut target = rows.next_column()?.expect("the schema has a field for every column");
            match (target.untyped(), column) {
                (ColumnWriter::ByteArrayColumnWriter(to), Column::Text(values)) => {
                    let bytes = |text: &String| ByteArray::from(text.as_str());
                    let found: Vec<ByteArray> = values.iter().flatten().map(bytes).collect();
                    to.write_batch(&found, Some(&levels(values)), None)?;
                }
                (ColumnWriter::DoubleColumnWriter(to), Column::Number(values)) => {
                    let found: Vec<f64> = values.iter().flatten().copied().collect();
                    to.write_batch(&found, Some(&levels(values)), None)?;
                }
                (ColumnWriter::Int64ColumnWriter(to), Column::Count(values)) => {
                    let found: Vec<i64> = values.iter().flatten().copied().collect();
                    to.write_batch(&found, Some(&levels(values)), None)?;
                }
                _ => unreachable!("the schema was made of these columns"),
            }
            target.close()?;
        }
        rows.close()?;
        writer.into_inner()
    }
}

/// Where an optional value is there.
fn levels<T>(values: &[Option<T>]) -> Vec<i16> {
    values.iter().map(|value| i16::from(value.is_some())).collect()
}

/// The schema with the columns' own names, which the parser of schemas would not take: `train.seed`.
fn renamed(
    schema: &parquet::schema::types::Type,
    columns: &[(String, Column)],
) -> Result<parquet::schema::types::Type, ParquetError> {
    use parquet::schema::types::Type;
    let field = |(field, (name, _)): (&Arc<Type>, &(String, Column))| {
        let info = field.get_basic_info();
        let built = Type::primitive_type_builder(name, field.get_physical_type())
            .with_repetition(info.repetition())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_converted_type(info.converted_type())
            .build();
        built.map(Arc::new)
    };
    let fields = schema.get_fields().iter().zip(columns).map(field).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("rows").with_fields(fields).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::{Limits, read};

    #[test]
    fn both_formats_hold_the_same_and_are_read_back() {
        let tidy = Tidy {
            columns: vec![
                ("cell".to_owned(), Column::Text(vec![Some("a,b".to_owned()), Some("c".to_owned())])),
                ("train.seed".to_owned(), Column::Count(vec![Some(3), None])),
                ("value".to_owned(), Column::Number(vec![None, Some(0.25)])),
            ],
        };
        let csv = String::from_utf8(tidy.csv()).unwrap();
        assert_eq!(csv, "cell,train.seed,value\n\"a,b\",3,\nc,,0.25\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, tidy.parquet().unwrap()).unwrap();
        let mut rows = Vec::new();
        let each: crate::data::table::Each<'_, crate::data::table::TableError> = &mut |fields, _| {
            rows.push(fields);
            Ok(())
        };
        read(&path, Limits::default(), each).unwrap();
        assert_eq!(json!(rows[0]), json!({ "cell": "a,b", "train.seed": 3, "value": null }));
        assert_eq!(json!(rows[1]), json!({ "cell": "c", "train.seed": null, "value": 0.25 }));
    }
}
