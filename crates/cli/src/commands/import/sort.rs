//! Records in the order of their keys, however many there are: an external merge sort.
//!
//! ```text
//!   input ─► chunk in memory ─► sorted ─► run on disk ──┐
//!            chunk in memory ─► sorted ─► run on disk ──┼─► merged: the last of equal keys
//!            chunk in memory ─► sorted ─► run on disk ──┘
//! ```
//!
//! Runs are in the order of the input, so of equal keys in several the one in the last run counts,
//! as it would had the records been put one after the other. Input that is sorted already makes one
//! run, however long it is; input that fits into memory makes none.
//!
//! A run is a file that has no name any more when it is first written to: nothing is left of it
//! however the program ends. A record in it:
//!
//! ```text
//!   | crc32c of the rest | key length | value length | key | value |      lengths: 4 bytes each
//! ```
//!
//! # Invariants
//! * At most [`FAN_IN`] runs of a generation: that many of one are merged into one of the next, so
//!   each record is written once per generation, and the files open at once stay few.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure, Result};

/// Runs that are merged at once. Each takes a file and a buffer.
const FAN_IN: usize = 64;

/// The buffer of a run, in bytes: large enough that a disk reads in one go.
const BUFFER_BYTES: usize = 128 << 10;

/// What a record takes in memory beside its bytes, about.
const RECORD_BYTES: usize = 96;

type Record = (Vec<u8>, Vec<u8>);

/// Takes records in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    chunk_bytes_max: usize,
    chunk: Vec<Record>,
    chunk_bytes: usize,
    /// In the order of the input; generations fall.
    runs: Vec<Run>,
    made: u64,
}

impl Sorter {
    /// Sorts within some memory, and in files in a folder beyond it.
    pub(super) fn new(folder: &Path, bytes: usize) -> Sorter {
        Sorter {
            folder: folder.to_path_buf(),
            chunk_bytes_max: bytes,
            chunk: Vec::new(),
            chunk_bytes: 0,
            runs: Vec::new(),
            made: 0,
        }
    }

    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result {
        self.chunk_bytes += key.len() + value.len() + RECORD_BYTES;
        self.chunk.push((key, value));
        if self.chunk_bytes >= self.chunk_bytes_max {
            self.end_chunk()?;
        }
        Ok(())
    }

    /// Hands out the records in the order of their keys, of equal keys the last one.
    pub(super) fn finish(mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result) -> Result {
        if self.runs.is_empty() {
            sort(&mut self.chunk);
            return self.chunk.iter().try_for_each(|(key, value)| visit(key, value));
        }
        self.end_chunk()?;
        merge(std::mem::take(&mut self.runs), &mut visit)
    }

    /// Writes the chunk to the end of the last run if it comes after it, or else to a new one.
    fn end_chunk(&mut self) -> Result {
        sort(&mut self.chunk);
        let Some((first, _)) = self.chunk.first() else { return Ok(()) };
        let goes_on = self.runs.last().is_some_and(|run| run.is_open() && run.last_key < *first);
        if !goes_on {
            let run = self.create(0)?;
            self.runs.push(run);
        }
        if let Some(run) = self.runs.last_mut() {
            for (key, value) in self.chunk.drain(..) {
                run.write(&key, &value)?;
            }
        }
        self.chunk_bytes = 0;
        self.merge_generations()
    }

    fn merge_generations(&mut self) -> Result {
        while let Some(generation) = self.runs.last().map(|run| run.generation) {
            let same = self.runs.iter().rev().take_while(|run| run.generation == generation);
            let count = same.count();
            if count < FAN_IN {
                return Ok(());
            }
            let mut merged = self.create(generation + 1)?;
            let runs = self.runs.split_off(self.runs.len() - count);
            merge(runs, &mut |key, value| merged.write(key, value))?;
            self.runs.push(merged);
        }
        Ok(())
    }

    fn create(&mut self, generation: u32) -> Result<Run> {
        self.made += 1;
        let name = format!(".holm-import-{}-{}.tmp", std::process::id(), self.made);
        let path = self.folder.join(name);
        let opened = File::options().read(true).write(true).create_new(true).open(&path);
        let file = opened.map_err(Failure::io(&path, "create"))?;
        fs::remove_file(&path).map_err(Failure::io(&path, "remove"))?;
        Ok(Run {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            path,
            last_key: Vec::new(),
            generation,
        })
    }
}

/// Sorts records and leaves the last of equal keys.
fn sort(chunk: &mut Vec<Record>) {
    // The sort is stable: equal keys stay in the order of the input.
    chunk.sort_by(|a, b| a.0.cmp(&b.0));
    chunk.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            std::mem::swap(&mut later.1, &mut kept.1);
        }
        is_same
    });
}

/// A run that is being written.
struct Run {
    file: BufWriter<File>,
    path: PathBuf,
    last_key: Vec<u8>,
    /// How often its records were merged.
    generation: u32,
}

impl Run {
    /// Whether more may be written to it: what was merged stays as it is.
    fn is_open(&self) -> bool {
        self.generation == 0
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> Result {
        let lengths = lengths_of(key, value);
        let crc = crc_of(&lengths, key, value).to_le_bytes();
        for part in [&crc[..], &lengths, key, value] {
            self.file.write_all(part).map_err(Failure::io(&self.path, "write"))?;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    fn read(self) -> Result<Reader> {
        let path = self.path;
        let flushed = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let mut file = flushed.map_err(Failure::io(&path, "write"))?;
        file.rewind().map_err(Failure::io(&path, "read"))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut reader = Reader { file, path, key: Vec::new(), value: Vec::new(), is_done: false };
        reader.advance()?;
        Ok(reader)
    }
}

fn lengths_of(key: &[u8], value: &[u8]) -> [u8; 8] {
    let mut lengths = [0; 8];
    lengths[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
    lengths[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
    lengths
}

fn crc_of(lengths: &[u8], key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(lengths), key);
    crc32c::crc32c_append(crc, value)
}

/// A run that is being read, on a record.
struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    key: Vec<u8>,
    value: Vec<u8>,
    is_done: bool,
}

impl Reader {
    fn advance(&mut self) -> Result {
        let mut head = [0; 12];
        let ended = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        match self.file.read_exact(&mut head) {
            Err(error) if ended(&error) => {
                self.is_done = true;
                return Ok(());
            }
            read => read.map_err(Failure::io(&self.path, "read"))?,
        }
        let number = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|it| it.first_chunk()).copied();
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let lengths = (number(4) as usize, number(8) as usize);
        for (part, length) in [(&mut self.key, lengths.0), (&mut self.value, lengths.1)] {
            part.clear();
            let read = Read::by_ref(&mut self.file).take(length as u64).read_to_end(part);
            read.map_err(Failure::io(&self.path, "read"))?;
        }
        if crc_of(&head[4..], &self.key, &self.value) != number(0) {
            return Err(Failure::with_code(
                Code::Damaged,
                format!(
                    "{}: a temporary file was not read back as it was written: check the disk, \
                     or name another folder with --tmp",
                    self.path.display()
                ),
            ));
        }
        Ok(())
    }
}

/// Hands out the records of runs in order, of equal keys the one in the last run.
fn merge(runs: Vec<Run>, visit: &mut dyn FnMut(&[u8], &[u8]) -> Result) -> Result {
    let mut readers: Vec<Reader> = runs.into_iter().map(Run::read).collect::<Result<_>>()?;
    readers.retain(|reader| !reader.is_done);
    // The reader with the smallest key on top; of equal keys, the later run below the earlier.
    let before = |readers: &[Reader], a: usize, b: usize| -> bool {
        readers[a].key.cmp(&readers[b].key).then(a.cmp(&b)) == Ordering::Less
    };
    let mut heap: Vec<usize> = Vec::with_capacity(readers.len());
    for at in 0..readers.len() {
        heap.push(at);
        sift_up(&mut heap, |a, b| before(&readers, a, b));
    }
    let mut last: Option<Record> = None;
    while let Some(&at) = heap.first() {
        let reader = &mut readers[at];
        match &mut last {
            // Equal keys come in the order of the input.
            Some((key, value)) if *key == reader.key => std::mem::swap(value, &mut reader.value),
            Some((key, value)) => {
                visit(key, value)?;
                std::mem::swap(key, &mut reader.key);
                std::mem::swap(value, &mut reader.value);
            }
            None => {
                let (key, value) = (&mut reader.key, &mut reader.value);
                last = Some((std::mem::take(key), std::mem::take(value)));
            }
        }
        reader.advance()?;
        if reader.is_done {
            heap.swap_remove(0);
        }
        sift_down(&mut heap, |a, b| before(&readers, a, b));
    }
    last.iter().try_for_each(|(key, value)| visit(key, value))
}

fn sift_up(heap: &mut [usize], before: impl Fn(usize, usize) -> bool) {
    let mut at = heap.len() - 1;
    while at > 0 && before(heap[at], heap[(at - 1) / 2]) {
        heap.swap(at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

fn sift_down(heap: &mut [usize], before: impl Fn(usize, usize) -> bool) {
    let mut at = 0;
    loop {
        let mut least = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if child < heap.len() && before(heap[child], heap[least]) {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Numbers without a pattern, the same ones in each run.
    fn numbers(count: usize) -> impl Iterator<Item = u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..count).map(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
    }

    fn check(input: Vec<Record>, bytes: usize, runs_max: usize) {
        let mut sorter = Sorter::new(&std::env::temp_dir(), bytes);
        let mut expected = BTreeMap::new();
        for (key, value) in input {
            sorter.push(key.clone(), value.clone()).unwrap();
            expected.insert(key, value);
            assert!(sorter.chunk_bytes <= bytes, "{} bytes", sorter.chunk_bytes);
            assert!(sorter.runs.len() <= runs_max, "{} runs", sorter.runs.len());
        }
        let mut found = Vec::new();
        let visit = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        sorter.finish(visit).unwrap();
        assert!(found == expected.into_iter().collect::<Vec<_>>());
    }

    fn records(count: usize, keys: u64) -> Vec<Record> {
        let record = |(at, number): (usize, u64)| {
            let key = format!("{:05}", number % keys).into_bytes();
            (key, format!("{at}{}", "x".repeat((number % 50) as usize)).into_bytes())
        };
        numbers(count).enumerate().map(record).collect()
    }

    #[test]
    fn records_come_in_order_and_the_last_of_equal_keys_counts() {
        for (count, bytes) in [(0, 1000), (1, 1), (100, 1 << 20), (3000, 5000), (3000, 200)] {
            check(records(count, 100_000), bytes, 3 * FAN_IN);
            check(records(count, 700), bytes, 3 * FAN_IN);
            check(records(count, 3), bytes, 3 * FAN_IN);
        }
    }

    #[test]
    fn thousands_of_runs_are_merged_on_the_way() {
        // A run for each record: several generations.
        check(records(9000, 2000), 1, 3 * FAN_IN);
    }

    #[test]
    fn sorted_input_makes_one_run() {
        let sorted = (0..5000u32).map(|number| (number.to_be_bytes().to_vec(), vec![1; 10]));
        check(sorted.collect(), 3000, 1);
    }

    #[test]
    fn a_flipped_bit_in_a_run_is_seen() {
        let mut sorter = Sorter::new(&std::env::temp_dir(), 1);
        sorter.push(b"b".to_vec(), b"1".to_vec()).unwrap();
        sorter.push(b"a".to_vec(), b"2".to_vec()).unwrap();
        let run = &mut sorter.runs[0].file;
        run.flush().unwrap();
        run.seek(io::SeekFrom::Start(13)).unwrap();
        run.write_all(b"3").unwrap();
        let failure = sorter.finish(|_, _| Ok(())).unwrap_err();
        assert!(failure.message().contains("--tmp"), "{failure:?}");
    }
}
