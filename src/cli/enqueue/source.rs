//! A file of orders, read order by order, and more than once: first to judge them all, then to
//! queue them.
//!
//! Four shapes are told apart by how the file begins: one order, an array of orders, one order a
//! line (NDJSON), and a whole payload as a receiver gets it. NDJSON is never held in memory, the
//! others are. What an order may be is not decided here.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::feed::order::{Action, OrderType};

/// A line is read no further than this: more than the largest order, and white space around it.
const LINE_MAX: u64 = (16 << 20) + (1 << 16);

/// What is no NDJSON is held in memory, and so has a limit.
const WHOLE_MAX: u64 = 1 << 30;

/// Some programs begin a file with U+FEFF; it is no part of the first order.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// One input.
#[derive(Debug)]
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    kept: Kept,
    shape: Shape,
}

/// How an input is there to be read twice.
#[derive(Debug)]
enum Kept {
    /// As a file, which is opened only while it is read: there may be thousands.
    File { path: PathBuf, stamp: Stamp },
    /// As a copy of what came by a pipe.
    Copy(File),
}

/// By which a file is known to be the same, and unchanged.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One order a line.
    Lines,
    /// One order, an array of orders, or a payload.
    Whole,
}

/// What an input says about all of its orders; only a payload says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The type of all its orders.
    pub order_type: Option<OrderType>,
    /// The action of all its orders.
    pub action: Option<Action>,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The how manyeth it is, from 1.
    pub number: usize,
}

/// An order as it stands in the input.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What its input says of all orders.
    pub header: &'a Header,
    /// Where it stands.
    pub spot: Spot,
    /// Its text, or why it has none.
    pub text: Result<&'a str, String>,
}

/// Why reading an input ended early.
#[derive(Debug)]
pub enum Broken<E> {
    /// The input is not what it should be: the line, and what is wrong.
    Input(usize, String),
    /// The file system refused.
    Io(io::Error),
    /// Whoever takes the orders wants no more.
    Taker(E),
}

impl<E> From<io::Error> for Broken<E> {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Source {
    /// Finds an input; `-` is standard input. What can't be read twice is first copied to a file
    /// without a name in `spool`.
    pub fn open(path: &Path, spool: &Path) -> io::Result<Self> {
        let (name, kept, file) = if path == Path::new("-") {
            let (kept, file) = keep(&mut io::stdin().lock(), spool)?;
            ("standard input".to_owned(), kept, file)
        } else {
            let mut file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let (kept, file) = if metadata.is_file() {
                let kept = Kept::File {
                    path: path.to_owned(),
                    stamp: Stamp::from(&metadata),
                };
                (kept, file)
            } else {
                keep(&mut file, spool)?
            };
            (path.display().to_string(), kept, file)
        };
        Ok(Self {
            name,
            kept,
            shape: shape(file)?,
        })
    }

    /// Whether somebody wrote to it, or replaced it, since it was found.
    pub fn has_changed(&self) -> io::Result<bool> {
        match &self.kept {
            Kept::File { path, stamp } => Ok(Stamp::from(&fs::metadata(path)?) != *stamp),
            Kept::Copy(_) => Ok(false),
        }
    }

    /// Reads it from its beginning, and hands over one order after another.
    pub fn each<E>(&self, take: impl FnMut(&Entry<'_>) -> Result<(), E>) -> Result<(), Broken<E>> {
        let file = match &self.kept {
            Kept::File { path, .. } => File::open(path)?,
            Kept::Copy(copy) => from_start(copy)?,
        };
        match self.shape {
            Shape::Lines => each_line(file, take),
            Shape::Whole => each_within(file, take),
        }
    }
}

fn each_line<E>(
    file: File,
    mut take: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), Broken<E>> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let header = Header::default();
    let mut line = Vec::new();
    let mut spot = Spot { line: 0, number: 0 };
    loop {
        if !read_line(&mut reader, &mut line)? {
            return Ok(());
        }
        spot.line += 1;
        let too_long = line.len() as u64 == LINE_MAX && line.last() != Some(&b'\n');
        if too_long {
            reader.skip_until(b'\n')?;
        }
        let line = if spot.line == 1 {
            line.strip_prefix(BYTE_ORDER_MARK.as_bytes())
                .unwrap_or(&line)
        } else {
            &line
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        spot.number += 1;
        let text = if too_long {
            Err("body: must be at most 16 MiB (16777216 bytes)".to_owned())
        } else {
            str::from_utf8(line)
                .map_err(|error| format!("body: not UTF-8 text (byte {})", error.valid_up_to() + 1))
        };
        let entry = Entry {
            header: &header,
            spot,
            text,
        };
        take(&entry).map_err(Broken::Taker)?;
    }
}

fn each_within<E>(
    file: File,
    mut take: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), Broken<E>> {
    let mut bytes = Vec::new();
    file.take(WHOLE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > WHOLE_MAX {
        let message =
            "is larger than 1 GiB; write one order a line (NDJSON), which has no limit".to_owned();
        return Err(Broken::Input(1, message));
    }
    let text = str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + newlines(&bytes[..error.valid_up_to()]);
        Broken::Input(line, "not UTF-8 text".to_owned())
    })?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let (header, orders) = match text.trim_ascii_start().strip_prefix('[') {
        Some(_) => (Header::default(), array(text, text)?),
        None => orders_of_object(text)?,
    };
    let mut spot = Spot { line: 1, number: 0 };
    let mut at = 0;
    for order in orders {
        let begin = offset(text, order);
        spot.line += newlines(&text.as_bytes()[at..begin]);
        spot.number += 1;
        at = begin;
        let entry = Entry {
            header: &header,
            spot,
            text: Ok(order),
        };
        take(&entry).map_err(Broken::Taker)?;
    }
    Ok(())
}

/// The members of a payload; of an order only that it has a tracking number is seen.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(rename = "TrackingNumber", borrow)]
    tracking_number: Option<&'a RawValue>,
    #[serde(rename = "DataType", borrow)]
    data_type: Option<&'a RawValue>,
    #[serde(rename = "Data", borrow)]
    data: Option<&'a RawValue>,
}

impl Payload<'_> {
    /// Whether it is one, and no order.
    fn is_one(&self) -> bool {
        self.tracking_number.is_none() && (self.data_type.is_some() || self.data.is_some())
    }
}

/// The orders of a payload; anything else is one order.
fn orders_of_object<E>(text: &str) -> Result<(Header, Vec<&str>), Broken<E>> {
    let order = || Ok((Header::default(), vec![text.trim_ascii()]));
    let payload: Payload<'_> = match serde_json::from_str(text) {
        Ok(payload) => payload,
        // It is JSON, and wrong as a payload; what is wrong with it as an order is told later.
        Err(error) if error.is_data() => return order(),
        Err(error) => return Err(not_json(&error)),
    };
    if !payload.is_one() {
        return order();
    }
    let wrong = |part: &str, message: &str| {
        let line = 1 + newlines(&text.as_bytes()[..offset(text, part)]);
        Broken::Input(line, message.to_owned())
    };
    let data_type = payload
        .data_type
        .ok_or_else(|| wrong(text, "a payload has a DataType beside its Data"))?
        .get();
    let data = payload
        .data
        .ok_or_else(|| wrong(text, "a payload has Data beside its DataType"))?
        .get();
    let word: String = serde_json::from_str(data_type).unwrap_or_default();
    let (order_type, action) = match word.split_once('.') {
        None => (word.parse(), Ok(Action::default())),
        Some((order_type, action)) => (order_type.parse(), action.parse()),
    };
    let (Ok(order_type), Ok(action)) = (order_type, action) else {
        return Err(wrong(
            data_type,
            "DataType: must be purchase_order, transfer_order or work_order, or one of them, a dot and an action",
        ));
    };
    if !data.starts_with('[') {
        return Err(wrong(data, "Data: must be an array of orders"));
    }
    let header = Header {
        order_type: Some(order_type),
        action: Some(action),
    };
    Ok((header, array(text, data)?))
}

fn array<'a, E>(text: &str, array: &'a str) -> Result<Vec<&'a str>, Broken<E>> {
    let orders: Vec<&RawValue> = serde_json::from_str(array).map_err(|error| {
        let before = newlines(&text.as_bytes()[..offset(text, array)]);
        match not_json(&error) {
            Broken::Input(line, message) => Broken::Input(line + before, message),
            other => other,
        }
    })?;
    Ok(orders.into_iter().map(RawValue::get).collect())
}

/// The parser's words, with its position where ours stand.
fn not_json<E>(error: &serde_json::Error) -> Broken<E> {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = message.strip_suffix(&place).unwrap_or(&message);
    let several = if what == "trailing characters" {
        "; several orders stand in one array, or each on one line (NDJSON)"
    } else {
        ""
    };
    Broken::Input(
        error.line(),
        format!("not JSON: {what} (column {}){several}", error.column()),
    )
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(byte == b'\n')).sum()
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// Reads the next line, or the beginning of one that is too long; `false` at the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(reader.take(LINE_MAX).read_until(b'\n', line)? > 0)
}

/// Which shape the file has, by its beginning.
fn shape(file: File) -> io::Result<Shape> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        if !read_line(&mut reader, &mut line)? {
            return Ok(Shape::Lines);
        }
        let begin = line
            .strip_prefix(BYTE_ORDER_MARK.as_bytes())
            .unwrap_or(&line);
        match begin.trim_ascii().first() {
            None => {}
            Some(b'[') => return Ok(Shape::Whole),
            Some(b'{') => return Ok(shape_of_object(begin)),
            Some(_) => return Ok(Shape::Lines),
        }
    }
}

/// The shape of a file whose first line begins an object.
fn shape_of_object(line: &[u8]) -> Shape {
    match serde_json::from_slice::<Payload<'_>>(line) {
        Ok(payload) if payload.is_one() => Shape::Whole,
        // The object goes on: on the next line, or beyond the longest line.
        Err(error) if error.is_eof() => Shape::Whole,
        _ => Shape::Lines,
    }
}

/// Keeps what can be read only once, in a file that goes with this process. It lies beside the
/// queue, where there is to be room for these orders anyway; the system's folder for temporary
/// files is often no larger than memory.
fn keep(from: &mut impl Read, folder: &Path) -> io::Result<(Kept, File)> {
    let path = folder.join(format!(
        ".orderfeed-enqueue-{:032x}",
        u128::from_be_bytes(crate::clock::dice())
    ));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    io::copy(from, &mut file)?;
    let reader = from_start(&file)?;
    Ok((Kept::Copy(file), reader))
}

fn from_start(copy: &File) -> io::Result<File> {
    let mut file = copy.try_clone()?;
    file.rewind()?;
    Ok(file)
}
