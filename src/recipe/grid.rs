//! `[grid]`: a recipe as many recipes, one for each cell of a study.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::merge::{Spec, range};
use super::{Ingredients, Init, Recipe, RecipeError, Soup, bad, explain, in_words, is_name, set};

/// What varies between the cells of a study: the product of all axes.
///
/// Every other key is an axis: a key of the recipe and its values, as a list or as a range such as `"1..3"` or
/// `"0.1..0.5/0.1"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Named settings: `[[grid.variant]]` tables.
    #[serde(default, rename = "variant", skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// Questions that are asked of the results before they are seen: `[[grid.contrast]]` tables.
    #[serde(default, rename = "contrast", skip_serializing_if = "Vec::is_empty")]
    pub contrasts: Vec<Contrast>,
    /// Merges of the models that the seeds of a cell gave: `model_stock`, or any method on the mean of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_seeds: Vec<String>,
    /// Which of the seeds' models are in the mean that these merges take.
    #[serde(default, skip_serializing_if = "Soup::is_uniform")]
    pub soup: Soup,
    /// Which models of a run they take.
    #[serde(default, skip_serializing_if = "Ingredients::are_last")]
    pub ingredients: Ingredients,
    #[serde(flatten)]
    pub axes: Table,
}

/// Several keys that are set together, under one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What tables call it.
    pub name: String,
    /// Keys of the recipe and their values.
    pub set: Table,
    /// Variants of one axis stand for one another. Absent, they stand beside the recipe as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<String>,
}

/// A question with one number as its answer, whose probability is corrected for the number of such questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    pub name: String,
    pub suite: String,
    /// The metric; the suite's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The cells that are looked at, by the names of their variants; the recipe as it is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The slope over λ of a method's merges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<String>,
    /// A candidate such as `slerp:0.5`, less the one that `less` names; `weight decay 0.3 / tuned` is of another variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub less: Option<String>,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Unique in the study; its folder starts with it.
    pub name: String,
    /// What tables call the cells that differ from it in their seed alone; empty for the recipe as it is.
    pub group: String,
    /// By axis, what is set, as it is shown.
    pub at: Vec<(String, String)>,
    pub recipe: Recipe,
    /// The cells whose tuned models it merges, instead of training one; empty for the others.
    pub over: Vec<String>,
    /// Which of their models are in the mean.
    pub soup: Soup,
    pub ingredients: Ingredients,
}

/// The key whose values are repetitions of one experiment.
pub const SEED: &str = "train.seed";
/// The axis of variants that stand beside the recipe as it is.
pub const VARIANT: &str = "variant";
/// The place on the axis of seeds of a cell that merges all of them.
pub const ALL_SEEDS: &str = "over seeds";
/// More cells than this are a slip.
const MOST_CELLS: usize = 10_000;
/// The length of a name that a folder takes.
const LONGEST: usize = 48;

/// One value of an axis: what it is called, and what it sets.
#[derive(Clone)]
struct Point {
    shown: String,
    set: Vec<(String, Value)>,
}

/// An axis by its name.
struct Axis {
    name: String,
    points: Vec<Point>,
}

impl Grid {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.all().map(drop)?;
        for text in &self.over_seeds {
            Spec::parse_range(text).map_err(|error| {
                bad("grid.over_seeds", &error, "`METHOD:λ`, such as `model_stock` or `linear:0.5`")
            })?;
        }
        if self.soup == Soup::Greedy && self.over_seeds.is_empty() {
            let expected = "`over_seeds` beside it, the merges of the soup, such as [\"linear:0.5\"]";
            return Err(bad("grid.soup", "`greedy` without merges over seeds", expected));
        }
        if self.ingredients == Ingredients::Checkpoints && self.over_seeds.is_empty() {
            let expected = "`over_seeds` beside it, the merges of the checkpoints, such as [\"linear:1\"]";
            return Err(bad("grid.ingredients", "`checkpoints` without merges over them", expected));
        }
        for contrast in &self.contrasts {
            let forms = [contrast.slope.is_some(), contrast.of.is_some() && contrast.less.is_some()];
            let halves = contrast.of.is_some() != contrast.less.is_some();
            if halves || forms.iter().filter(|is| **is).count() != 1 {
                return Err(bad(
                    "grid.contrast",
                    format!("`{}`", contrast.name),
                    "`slope = \"METHOD\"`, or `of` and `less`, each a candidate such as `slerp:0.5`",
                ));
            }
        }
        Ok(())
    }

    /// The axes in their order, variants first.
    fn all(&self) -> Result<Vec<Axis>, RecipeError> {
        let mut axes: Vec<Axis> = Vec::new();
        for Variant { name, set, axis } in &self.variants {
            let of = axis.as_deref().unwrap_or(VARIANT);
            if name.trim().is_empty() {
                return Err(bad("grid.variant", "a variant without a name", "a name"));
            }
            let point = Point { shown: name.clone(), set: flat(set) };
            let place = axes.iter().position(|known| known.name == of).unwrap_or_else(|| {
                let plain = Point { shown: String::new(), set: Vec::new() };
                let points = if axis.is_none() { vec![plain] } else { Vec::new() };
                axes.push(Axis { name: of.to_owned(), points });
                axes.len() - 1
            });
            if axes[place].points.iter().any(|known| known.shown == *name) {
                return Err(bad("grid.variant", format!("`{name}` twice"), "a name of its own for each"));
            }
            axes[place].points.push(point);
        }
        for (key, values) in flat(&self.axes) {
            let values = values_of(&key, &values)?;
            let shown = values.iter().enumerate().map(|(nth, value)| shown(value, nth));
            let points = shown
                .zip(&values)
                .map(|(shown, value)| Point { shown, set: vec![(key.clone(), value.clone())] });
            axes.push(Axis { points: points.collect(), name: key });
        }
        let n = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.points.len()));
        match n.filter(|n| *n <= MOST_CELLS) {
            None => Err(bad("grid", format!("more than {MOST_CELLS} cells"), "fewer values")),
            Some(_) => Ok(axes),
        }
    }
}

/// The cells of the recipe in `text`, with `assignments` made first; none if it has no `[grid]`.
///
/// # Errors
///
/// As [`Recipe::parse`], of any cell, which the error names.
pub fn cells(text: &str, origin: &str, assignments: &[String]) -> Result<Option<Vec<Cell>>, RecipeError> {
    let recipe = Recipe::parse(text, origin, assignments)?;
    let Some(grid) = &recipe.grid else { return Ok(None) };
    let mut table: Table = toml::from_str(text).map_err(|error| explain(&error, text, origin))?;
    for assignment in assignments {
        super::assign(&mut table, assignment)?;
    }
    table.remove("grid");
    // Bounds are of the study.
    table.remove("gate");
    let axes = grid.all()?;
    let mut points: Vec<Vec<(&Axis, &Point)>> = vec![Vec::new()];
    for axis in &axes {
        let along =
            |point| points.iter().map(move |before: &Vec<_>| [before.as_slice(), &[(axis, point)]].concat());
        points = axis.points.iter().flat_map(along).collect();
    }
    let mut found: Vec<Cell> = Vec::new();
    for point in points {
        let cell = cell(&table, &axes, &point)?;
        if let Some(twin) = found.iter().find(|known| known.name == cell.name) {
            return Err(bad("grid", format!("two cells called `{}`", twin.name), "values that differ"));
        }
        found.push(cell);
    }
    let drawn = |cell: &&Cell| cell.recipe.model.init == Init::Random;
    if let Some(cell) = found.iter().find(drawn).filter(|_| !grid.over_seeds.is_empty()) {
        let found = format!("merges over seeds of `{}`, each of which has a base of its own", cell.name);
        return Err(bad("grid.over_seeds", found, "`model.init = \"checkpoint\"`"));
    }
    let joint = joint(grid, &found, &axes);
    found.extend(joint);
    Ok(Some(found))
}

/// A cell for every group with several seeds, which merges what they gave.
fn joint(grid: &Grid, cells: &[Cell], axes: &[Axis]) -> Vec<Cell> {
    let mut joint: Vec<Cell> = Vec::new();
    for cell in cells.iter().filter(|_| !grid.over_seeds.is_empty()) {
        let group =
            if cell.group.is_empty() { ALL_SEEDS.to_owned() } else { format!("{}, {ALL_SEEDS}", cell.group) };
        if joint.iter().any(|known| known.group == group) {
            continue;
        }
        let members =
            cells.iter().filter(|other| other.group == cell.group && other.recipe.model.tuned.is_none());
        let over: Vec<String> = members.map(|member| member.name.clone()).collect();
        if over.len() < 2 && grid.ingredients == Ingredients::Last {
            continue;
        }
        let mut at = cell.at.clone();
        for (axis, value) in &mut at {
            if axis == SEED {
                ALL_SEEDS.clone_into(value);
            }
        }
        let name = name(axes, &at);
        let mut recipe = cell.recipe.clone();
        recipe.merge.methods.clone_from(&grid.over_seeds);
        // It trains nothing.
        recipe.train.ema = None;
        recipe.harden = None;
        recipe.name.clone_from(&name);
        joint.push(Cell { name, group, at, recipe, over, soup: grid.soup, ingredients: grid.ingredients });
    }
    joint
}

fn cell(table: &Table, axes: &[Axis], point: &[(&Axis, &Point)]) -> Result<Cell, RecipeError> {
    let at: Vec<(String, String)> =
        point.iter().map(|(axis, point)| (axis.name.clone(), point.shown.clone())).collect();
    let name = name(axes, &at);
    let mut table = table.clone();
    let wrong = |key: &str, message: &str| {
        let (why, help) = in_words(message);
        let help = help.unwrap_or_else(|| "the reference recipe lists every key".to_owned());
        RecipeError::BadCell { cell: name.clone(), key: key.to_owned(), why, help }
    };
    table.insert("name".to_owned(), Value::String(name.clone()));
    let mut recipe: Option<Recipe> = None;
    for (key, value) in point.iter().flat_map(|(_, point)| &point.set) {
        if key == "grid" || key.starts_with("grid.") || key == "name" {
            return Err(wrong(key, "a cell cannot set it"));
        }
        set(&mut table, key, value.clone()).map_err(|why| wrong(key, &why))?;
        recipe =
            Some(table.clone().try_into().map_err(|error: toml::de::Error| wrong(key, error.message()))?);
    }
    let recipe = match recipe {
        Some(recipe) => recipe,
        None => table.try_into().map_err(|error: toml::de::Error| wrong("grid", error.message()))?,
    };
    recipe.check().map_err(|error| match error {
        RecipeError::BadValue { key, found, expected } => RecipeError::BadCell {
            cell: name.clone(),
            why: format!("it is {found}, expected {expected}"),
            help: "change it in `[grid]`".to_owned(),
            key,
        },
        other => other,
    })?;
    let group = group(&at);
    let (over, soup, ingredients) = (Vec::new(), Soup::Uniform, Ingredients::Last);
    Ok(Cell { name, group, at, recipe, over, soup, ingredients })
}

/// What a cell is called without its seed: `weight decay 0.3`, `learning_rate 0.001`.
fn group(at: &[(String, String)]) -> String {
    let part = |(axis, value): &(String, String)| match value.is_empty() || axis == SEED {
        true => None,
        false if axis.contains('.') => Some(format!("{} {value}", last(axis))),
        false => Some(value.clone()),
    };
    at.iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// The last part of a dotted key.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A name for folders and the command line: `weight-decay-0.3_seed-1`.
fn name(axes: &[Axis], at: &[(String, String)]) -> String {
    let short = |key: &str| match axes.iter().filter(|other| last(&other.name) == last(key)).count() {
        1 => last(key).to_owned(),
        _ => key.to_owned(),
    };
    let part = |(axis, value): &(String, String)| match value.is_empty() {
        true => None,
        false if value == ALL_SEEDS => Some(ALL_SEEDS.to_owned()),
        false if axis.contains('.') => Some(format!("{}-{value}", short(axis))),
        false => Some(value.clone()),
    };
    let whole = at.iter().filter_map(part).collect::<Vec<_>>().join("_");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let mut name: String = whole.chars().map(plain).collect();
    if name.is_empty() {
        name.push_str("plain");
    }
    if name.starts_with('.') {
        name.insert(0, '-');
    }
    if name.len() > LONGEST {
        let digest = blake3::hash(whole.as_bytes()).to_hex();
        name = format!("{}-{}", &name[..LONGEST - 9], &digest[..8]);
    }
    debug_assert!(is_name(&name), "a cell's name is one of a run");
    name
}

/// The keys of a table of tables, dotted.
fn flat(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            // A table that stands for a value, such as `{ prompt = … }`, is behind a dotted key.
            Value::Table(inner) if !key.contains('.') => {
                found.extend(flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            _ => found.push((key.clone(), value.clone())),
        }
    }
    found
}

/// The values of an axis: a list, or a range of numbers.
fn values_of(key: &str, value: &Value) -> Result<Vec<Value>, RecipeError> {
    let wrong = |found: &str| {
        bad(
            &format!("grid.{key}"),
            found,
            "a list of values, or a range such as `\"1..3\"` or `\"0.1..0.5/0.1\"`",
        )
    };
    match value {
        Value::Array(values) if values.is_empty() => Err(wrong("an empty list")),
        Value::Array(values) => match (1..values.len()).find(|nth| values[..*nth].contains(&values[*nth])) {
            Some(twice) => Err(wrong(&format!("a list with {} twice", values[twice]))),
            None => Ok(values.clone()),
        },
        Value::String(text) => {
            let (from, rest) = text.split_once("..").ok_or_else(|| wrong(&format!("`{text}`")))?;
            let (to, step) = rest.split_once('/').unwrap_or((rest, "1"));
            let points = range(from, to, step).map_err(&wrong)?;
            let is_whole = points.iter().all(|x| x.fract() == 0.0);
            let value = |x: f64| if is_whole { Value::Integer(x as i64) } else { Value::Float(x) };
            Ok(points.into_iter().map(value).collect())
        }
        other => Err(wrong(&format!("{other}, a single {}", other.type_str()))),
    }
}

/// A value as tables show it; a list or table by its number.
fn shown(value: &Value, nth: usize) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Table(_) => format!("#{}", nth + 1),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"a\"\n[model]\nsource = \"m\"\n[data]\nsource = \"d\"\n";

    fn of(grid: &str) -> Result<Vec<Cell>, RecipeError> {
        cells(&format!("{HEAD}{grid}"), "r.toml", &[]).map(Option::unwrap_or_default)
    }

    fn names(grid: &str) -> Vec<String> {
        of(grid).unwrap().into_iter().map(|cell| cell.name).collect()
    }

    #[test]
    fn axes_multiply_and_every_cell_is_a_recipe_without_a_grid() {
        let found = of("[grid]\n\"train.seed\" = [1, 2]\ntrain.learning_rate = [1e-4, 2e-4]").unwrap();
        let names: Vec<&str> = found.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "seed-1_learning_rate-0.0001",
                "seed-2_learning_rate-0.0001",
                "seed-1_learning_rate-0.0002",
                "seed-2_learning_rate-0.0002"
            ]
        );
        let cell = &found[3];
        assert_eq!((cell.recipe.train.seed, cell.recipe.train.learning_rate), (2, 2e-4));
        assert_eq!(cell.group, "learning_rate 0.0002");
        assert!(cell.recipe.grid.is_none());
        assert_eq!(cell.recipe.name, cell.name);
    }

    #[test]
    fn variants_stand_beside_the_recipe_as_it_is_and_those_of_an_axis_for_one_another() {
        let decay = "[[grid.variant]]\nname = \"weight decay 0.3\"\nset = { \"train.weight_decay\" = 0.3 }\n";
        assert_eq!(names(decay), ["plain", "weight-decay-0.3"]);
        let tasks = "[[grid.variant]]\nname = \"x\"\naxis = \"task\"\nset = { data.source = \"x\" }\n\
            [[grid.variant]]\nname = \"y\"\naxis = \"task\"\nset = { data.source = \"y\" }\n";
        assert_eq!(names(tasks), ["x", "y"]);
        let all = format!("[grid]\n\"train.seed\" = \"1..3\"\n{decay}{tasks}");
        assert_eq!(names(&all).len(), 12);
        let cell = &of(&all).unwrap()[1];
        assert_eq!(
            (cell.name.as_str(), cell.group.as_str()),
            ("weight-decay-0.3_x_seed-1", "weight decay 0.3, x")
        );
    }

    #[test]
    fn a_range_is_the_list_of_its_numbers() {
        assert_eq!(names("[grid]\n\"train.seed\" = \"3..5\""), ["seed-3", "seed-4", "seed-5"]);
        assert_eq!(
            names("[grid]\ntrain.weight_decay = \"0.1..0.3/0.1\"").last().unwrap(),
            "weight_decay-0.3"
        );
    }

    #[test]
    fn a_slip_is_found_with_its_cell_and_key() {
        let told = |grid: &str| {
            let error = of(grid).unwrap_err();
            format!("{error} {}", miette::Diagnostic::help(&error).unwrap())
        };
        let error = told("[grid]\n\"train.sed\" = [1, 2]");
        assert!(
            error.contains("cell `sed-1`") && error.contains("`train.sed`") && error.contains("`seed`"),
            "{error}"
        );
        let error = told("[grid]\n\"train.batch\" = [8, 0]");
        assert!(error.contains("cell `batch-0`") && error.contains("train.batch"), "{error}");
        let error = told("[[grid.variant]]\nname = \"v\"\nset = { train.learning_rate = \"fast\" }");
        assert!(error.contains("cell `v`") && error.contains("train.learning_rate"), "{error}");
        for grid in [
            "[grid]\n\"train.seed\" = 1",
            "[grid]\n\"train.seed\" = []",
            "[grid]\n\"train.seed\" = [1, 1]",
            "[grid]\n\"train.seed\" = \"3..1\"",
            "[grid]\n\"name\" = [\"a\", \"b\"]",
            "[grid]\n\"train.seed\" = \"1..900\"\n\"train.batch\" = \"1..900\"",
            "[[grid.contrast]]\nname = \"c\"\nsuite = \"s\"",
            "[[grid.contrast]]\nname = \"c\"\nsuite = \"s\"\nof = \"tuned\"",
        ] {
            assert!(of(grid).is_err(), "{grid}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let variant =
            |name: &str| format!("[[grid.variant]]\nname = \"{name}\"\nset = {{ train.seed = 1 }}\n");
        let long = "a very long name ".repeat(6);
        let found = names(&format!("{}{}", variant(&format!("{long}1")), variant(&format!("{long}2"))));
        assert!(found[1].len() == LONGEST && found[1] != found[2], "{found:?}");
    }

    #[test]
    fn an_assignment_of_the_command_line_holds_in_every_cell() {
        let text = format!("{HEAD}[grid]\n\"train.seed\" = [1, 2]");
        let found = cells(&text, "r.toml", &["train.steps=7".to_owned()]).unwrap().unwrap();
        assert!(found.iter().all(|cell| cell.recipe.train.steps == 7));
    }
}
