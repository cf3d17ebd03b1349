//! The operations themselves: what a lane does until its window ends.

use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Order, SCAN_ALL_ROWS, SCAN_ROWS, Workload};
use crate::lane::{Done, Lane};
use crate::records::{Batch, FIRST, VALUE_BYTES, count_up, key, ordered_key};
use crate::run::{Runner, on_threads};
use crate::store::{Result, Session, Store};
use crate::ycsb::Ycsb;

/// Writes records that are not there yet, a batch to a transaction.
pub(crate) fn fill(
    workload: Workload,
    session: &mut dyn Session,
    lane: &mut Lane,
    records: u64,
) -> Result<()> {
    let key = match workload {
        Workload::Fill(Order::Ascending, _) => ordered_key,
        _ => key,
    };
    let batch_rows = workload.batch();
    let mut batch = Batch::new(batch_rows);
    let mut next = 0;
    lane.repeat(|_, values| {
        let row_bytes = values.row_bytes();
        if batch_rows == 1 {
            session.put(&key(next), values.next())?;
            next += 1;
            return Ok(Done::wrote(row_bytes));
        }
        let numbers = next..records.min(next + batch_rows);
        next = numbers.end;
        let ops = numbers.end - numbers.start;
        batch.fill(numbers.map(key), values);
        session.write_batch(&batch.rows(values))?;
        Ok(Done { ops, aborts: 0, bytes: ops * row_bytes })
    })
}

/// Overwrites random records, a batch to a transaction.
pub(crate) fn overwrite(
    batch_rows: u64,
    session: &mut dyn Session,
    lane: &mut Lane,
    records: u64,
) -> Result<()> {
    let mut batch = Batch::new(batch_rows);
    lane.repeat(|random, values| {
        batch.fill((0..batch_rows).map(|_| key(random.below(records))), values);
        session.write_batch(&batch.rows(values))?;
        Ok(Done { ops: batch_rows, aborts: 0, bytes: batch_rows * values.row_bytes() })
    })
}

/// Rows that wait in the queue, as a share of the records: a backlog, but a short one.
const QUEUE_SHARE: u64 = 1000;

/// Puts at the tail and takes from the head, which is found by a seek to the first key.
pub(crate) fn queue(session: &mut dyn Session, lane: &mut Lane, records: u64) -> Result<()> {
    let mut tail = 0;
    for _ in 0..records / QUEUE_SHARE {
        session.put(&ordered_key(tail), lane.values.next())?;
        tail += 1;
    }
    lane.begin();
    let mut head = Vec::new();
    lane.repeat(|_, values| {
        session.put(&ordered_key(tail), values.next())?;
        tail += 1;
        let found = session.scan(FIRST, 1, &mut |key, _| {
            head.clear();
            head.extend_from_slice(key);
        })?;
        if found != 1 {
            return Err("the queue lost its rows".into());
        }
        session.delete(&head)?;
        Ok(Done::wrote(values.row_bytes() + head.len() as u64))
    })
}

/// Rows of a transaction of the writer beside the readers, and how many of these a second. A writer
/// without a pace would leave the less to the readers the faster its store is.
const MIXED_WRITER: (u64, u32) = (100, 200);

/// Reads on all lanes but the writer's; hands them back with the writer's as the last.
pub(crate) fn mixed(
    store: &dyn Store,
    readers: Vec<Lane>,
    mut writer: Lane,
    runner: &Runner<'_>,
) -> Result<Vec<Lane>> {
    let records = runner.records;
    let (rows, per_second) = MIXED_WRITER;
    thread::scope(|scope| {
        let writing = scope.spawn(move || -> Result<Lane> {
            let mut session = store.session()?;
            let mut batch = Batch::new(rows);
            let mut due = Instant::now();
            while writer.goes_on() {
                due += Duration::from_secs(1) / per_second;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // What counts is the time of the write, not that until its turn.
                writer.restart();
                let bytes = rows * writer.values.row_bytes();
                let numbers = (0..rows).map(|_| key(writer.random.below(records)));
                batch.fill(numbers, &mut writer.values);
                session.write_batch(&batch.rows(&writer.values))?;
                writer.done(Done { ops: rows, aborts: 0, bytes });
            }
            Ok(writer)
        });
        let mut lanes = on_threads(store, readers, &|session, lane| {
            let mut value = Vec::with_capacity(VALUE_BYTES);
            lane.repeat(|random, _| {
                expect(session.get(&key(random.below(records)), &mut value)?, true)
            })
        })?;
        lanes.push(writing.join().map_err(|_| "the writer panicked")??);
        Ok(lanes)
    })
}

/// Returns the operation of a cell on a loaded store.
pub(crate) fn on_loaded<'a>(
    runner: &'a Runner<'_>,
) -> impl Fn(&mut dyn Session, &mut Lane) -> Result<()> + Sync + 'a {
    let mix = match runner.cell.workload {
        Workload::Ycsb(mix) => Some(Ycsb::new(mix, &runner.zipfian, runner.records)),
        _ => None,
    };
    move |session, lane| match &mix {
        Some(ycsb) => {
            let mut value = Vec::with_capacity(VALUE_BYTES);
            lane.repeat(|random, values| ycsb.operate(session, random, values, &mut value))
        }
        None => read(runner, session, lane),
    }
}

fn read(runner: &Runner<'_>, session: &mut dyn Session, lane: &mut Lane) -> Result<()> {
    let records = runner.records;
    let mut value = Vec::with_capacity(VALUE_BYTES);
    match runner.cell.workload {
        Workload::Get(_) => lane.repeat(|random, _| {
            expect(session.get(&key(random.below(records)), &mut value)?, true)
        }),
        Workload::GetView => {
            let mut reader = session.reader()?;
            lane.repeat(|random, _| {
                expect(reader.get(&key(random.below(records)), &mut value)?, true)
            })
        }
        Workload::Absent(_) => lane.repeat(|random, _| {
            expect(session.get(&key(records + random.below(records)), &mut value)?, false)
        }),
        Workload::Scan(_) => lane.repeat(|random, _| {
            let mut sum = 0;
            session.scan(&key(random.below(records)), SCAN_ROWS, &mut |_, value| {
                sum += touch(value);
            })?;
            expect(sum > 0, true)
        }),
        Workload::ScanAll(_) => {
            while lane.goes_on() {
                let (mut rows, mut sum) = (0, 0);
                session.scan(FIRST, records as usize, &mut |_, value| {
                    rows += 1;
                    sum += touch(value);
                    if rows % SCAN_ALL_ROWS == 0 {
                        lane.done(Done { ops: SCAN_ALL_ROWS, ..Done::READ });
                    }
                })?;
                lane.done(Done { ops: rows % SCAN_ALL_ROWS, ..Done::READ });
                expect(rows == records && sum > 0, true)?;
            }
            Ok(())
        }
        Workload::ReadModifyWrite => lane.repeat(|random, values| {
            let key = key(runner.zipfian.rank(random));
            let aborts = session.read_modify_write(&key, &mut count_up)?;
            Ok(Done { ops: 1, aborts, bytes: values.row_bytes() })
        }),
        _ => Err("not a workload on a loaded store".into()),
    }
}

/// Reads of a value what makes a store bring all of it: a byte at each end.
fn touch(value: &[u8]) -> u64 {
    let ends = [value.first(), value.last()];
    ends.into_iter().flatten().map(|&byte| u64::from(byte) + 1).sum()
}

fn expect(found: bool, expected: bool) -> Result<Done> {
    match (found, expected) {
        (true, false) => Err("an absent key was found".into()),
        (false, true) => Err("a loaded key was not found".into()),
        _ => Ok(Done::READ),
    }
}
