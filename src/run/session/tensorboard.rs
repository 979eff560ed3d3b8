//! `tensorboard/`: the curves of a training as `TensorBoard` reads them.
//!
//! A file is a row of `TFRecord`s, each an `Event` of `tensorflow/core/util/event.proto`: length, contents, and a masked
//! CRC-32C after each of the two. Every sitting writes a file of its own; one that goes on from a checkpoint says so, and
//! `TensorBoard` drops the steps of before that it makes again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::event::{Event, StepEvent};
use crate::snapshot::writer::no_links;

/// Where the files lie in a run folder.
const FOLDER: &str = "tensorboard";

/// The reflected polynomial of CRC-32C.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What `TFRecord`s add to a checksum that was turned by 15 bits, so that it is none of itself.
const MASK: u32 = 0xa282_ead8;

/// The event files of one run.
#[derive(Debug)]
pub struct Curves {
    folder: PathBuf,
    /// This sitting's, once there is something to write.
    file: Option<File>,
    /// Seconds at the last step, from the beginning of the sitting.
    elapsed_s: f64,
}

impl Curves {
    /// Those of the run in `run`; nothing is made before the first step.
    pub fn of(run: &Path) -> Self {
        Self { folder: run.join(FOLDER), file: None, elapsed_s: 0.0 }
    }

    /// Writes what an event has for curves.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Step(step) => {
                let since_s = step.elapsed_s - self.elapsed_s;
                self.elapsed_s = step.elapsed_s;
                if step.step == 1 {
                    // What was there was killed before its first checkpoint.
                    self.restart(1)?;
                }
                self.put(&scalars(step.step, &of_step(step, since_s)))
            }
            Event::Validation { step, loss, .. } => self.put(&scalars(*step, &[("validation/loss", *loss)])),
            Event::Resumed { step } => self.restart(step + 1),
            _ => Ok(()),
        }
    }

    /// Tells that what follows begins with `step`: what is there of that and later steps is void.
    fn restart(&mut self, step: usize) -> std::io::Result<()> {
        const START: u64 = 1;
        let mut log = Vec::new();
        varint(&mut log, 1, START);
        let mut event = begun(step);
        bytes(&mut event, 7, &log);
        self.put(&event)
    }

    fn put(&mut self, event: &[u8]) -> std::io::Result<()> {
        let mut text = Vec::new();
        if self.file.is_none() {
            let Some(file) = self.open()? else { return Ok(()) };
            self.file = Some(file);
            let mut first = begun(0);
            bytes(&mut first, 3, b"brain.Event:2");
            record(&mut text, &first);
        }
        record(&mut text, event);
        let file = self.file.as_mut().expect("it was just opened");
        file.write_all(&text)
    }

    /// A new file, named as `TensorBoard` looks for them; none where the folder is a link, which leads out of the run.
    fn open(&self) -> std::io::Result<Option<File>> {
        if self.folder.is_symlink() {
            return Ok(None);
        }
        std::fs::create_dir_all(&self.folder)?;
        let (seconds, pid) = (chrono::Utc::now().timestamp(), std::process::id());
        // Several sittings in one second are told apart by their number.
        let before = std::fs::read_dir(&self.folder)?.count();
        let name = format!("events.out.tfevents.{seconds}.{}.{pid}.{before}", env!("CARGO_PKG_NAME"));
        no_links(OpenOptions::new().create(true).append(true)).open(self.folder.join(name)).map(Some)
    }
}

/// The curves of a step.
fn of_step(step: &StepEvent, since_s: f64) -> Vec<(&'static str, f64)> {
    let mut all = vec![
        ("train/loss", step.loss),
        ("train/gradient_norm", step.gradient_norm),
        ("train/learning_rate", step.learning_rate),
        ("train/epoch", step.epoch),
        ("train/padding", step.padding),
    ];
    if since_s > 0.0 {
        all.push(("train/tokens_per_second", step.tokens as f64 / since_s));
    }
    if let Some(pairs) = &step.pairs {
        all.extend([
            ("rewards/chosen", pairs.reward_chosen),
            ("rewards/rejected", pairs.reward_rejected),
            ("rewards/margin", pairs.reward_margin),
            ("rewards/accuracy", pairs.reward_accuracy),
        ]);
    }
    all.extend(step.penalty.map(|penalty| ("train/penalty", penalty)));
    all
}

/// An event of a step with some scalars: `Summary` has `Value`s, each a tag and a `simple_value`.
fn scalars(step: usize, all: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in all {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        value.push((2 << 3) | 5); // fixed 32 bits
        value.extend((*number as f32).to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    let mut event = begun(step);
    bytes(&mut event, 5, &summary);
    event
}

/// An event's time and step.
fn begun(step: usize) -> Vec<u8> {
    let mut event = vec![(1 << 3) | 1]; // fixed 64 bits
    event.extend((chrono::Utc::now().timestamp_millis() as f64 / 1000.0).to_le_bytes());
    varint(&mut event, 2, step as u64);
    event
}

/// A field of protobuf that is a number.
fn varint(message: &mut Vec<u8>, field: u8, number: u64) {
    message.push(field << 3);
    length(message, number);
}

/// A field of protobuf that is text or another message.
fn bytes(message: &mut Vec<u8>, field: u8, contents: &[u8]) {
    message.push((field << 3) | 2);
    length(message, contents.len() as u64);
    message.extend(contents);
}

/// Seven bits a byte, the lowest first, the highest bit where more follow.
fn length(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn record(text: &mut Vec<u8>, contents: &[u8]) {
    let length = (contents.len() as u64).to_le_bytes();
    text.extend(length);
    text.extend(masked(&length).to_le_bytes());
    text.extend(contents);
    text.extend(masked(contents).to_le_bytes());
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        // Appendix B.4 of RFC 3720, and the check value of the catalogue of CRCs.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let of = |number| {
            let mut message = Vec::new();
            length(&mut message, number);
            message
        };
        assert_eq!((of(1), of(127), of(150)), (vec![1], vec![127], vec![0x96, 0x01]));
    }
}
