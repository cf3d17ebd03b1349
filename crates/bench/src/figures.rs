//! What is reported of a run: numbers by name, so that a new one is added in one place.
//!
//! | name | what |
//! |---|---|
//! | `ops_per_s` | operations (or rows) a second |
//! | `p50_us` … `p999_us`, `max_us` | latency of an operation, or of what ended together |
//! | `cpu_us_per_op` | processor time of the whole process |
//! | `aborts_per_op` | attempts that ended in a conflict, for each that committed |
//! | `fsyncs_per_op` | syncs that the store counted |
//! | `flushes_per_op` | cache flushes that the disk saw, whoever asked |
//! | `device_reads_per_op` | reads that the disk served, whoever asked |
//! | `read_bytes_per_op` | bytes that this process had the disk read |
//! | `written_per_byte` | bytes this process wrote, log included, for each byte of rows |
//! | `write_calls_per_byte` | the same, as handed to system calls; mapped files have none |
//! | `written_per_byte_settled` | as `written_per_byte`, background work afterwards included |
//! | `device_written_per_byte` | what the disk was sent, whoever asked, with all that was left |
//! | `disk_bytes`, `disk_bytes_peak` | space the store takes at the end, and at most |
//! | `disk_bytes_settled` | the same once background work is done |
//! | `space`, `space_peak`, `space_settled` | these, for each live byte of keys and values |
//! | `memory_bytes_peak` | most resident memory of the process, mapped files included |
//! | `memory_anonymous_bytes_peak` | the same without mapped files |
//! | `rounds` | operations, as a multiple of the records |
//! | `writer_ops_per_s`, `writer_max_us` | what the writer beside the readers did |

use std::collections::BTreeMap;

use crate::json::Json;
use crate::run::Measured;

/// Numbers by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub(crate) fn of(measured: &Measured) -> Figures {
        let Measured { outcome, used, memory, disk, writer, records, .. } = measured;
        let ops = outcome.total.ops.max(1) as f64;
        let us = |quantile| outcome.latencies.value_at_quantile(quantile) as f64 / 1e3;
        let mut figures = Figures::default();
        let mut set = |name: &str, number: Option<f64>| {
            if let Some(number) = number {
                figures.0.insert(name.to_owned(), number);
            }
        };
        let per_op = |count: Option<u64>| count.map(|count| count as f64 / ops);
        set("ops_per_s", Some(outcome.total.ops as f64 / outcome.elapsed.as_secs_f64().max(1e-9)));
        set("p50_us", Some(us(0.5)));
        set("p95_us", Some(us(0.95)));
        set("p99_us", Some(us(0.99)));
        set("p999_us", Some(us(0.999)));
        set("max_us", Some(outcome.latencies.max() as f64 / 1e3));
        set("cpu_us_per_op", Some(used.cpu.as_secs_f64() * 1e6 / ops));
        set("aborts_per_op", Some(outcome.total.aborts as f64 / ops));
        set("fsyncs_per_op", per_op(used.fsyncs));
        set("flushes_per_op", per_op(used.flushes));
        set("device_reads_per_op", per_op(used.device_reads));
        set("read_bytes_per_op", per_op(used.read_bytes));
        if outcome.total.bytes > 0 {
            let bytes = outcome.total.bytes as f64;
            let per_byte = |count: Option<u64>| count.map(|count| count as f64 / bytes);
            set("written_per_byte", per_byte(used.written_bytes));
            set("write_calls_per_byte", per_byte(used.write_call_bytes));
            set("written_per_byte_settled", per_byte(measured.written_bytes_settled));
            set("device_written_per_byte", per_byte(measured.device_written_bytes));
        }
        let settled = disk.settled_bytes;
        set("disk_bytes", Some(disk.bytes as f64));
        set("disk_bytes_peak", Some(disk.peak_bytes as f64));
        set("disk_bytes_settled", settled.map(|bytes| bytes as f64));
        if let Some(live) = measured.live_bytes.filter(|&live| live > 0) {
            let per_live = |bytes: u64| bytes as f64 / live as f64;
            set("space", Some(per_live(disk.bytes)));
            set("space_peak", Some(per_live(disk.peak_bytes)));
            set("space_settled", settled.map(per_live));
        }
        set("memory_bytes_peak", memory.peak_bytes.map(|bytes| bytes as f64));
        let anonymous = memory.anonymous_peak_bytes.map(|bytes| bytes as f64);
        set("memory_anonymous_bytes_peak", anonymous);
        set("rounds", Some(outcome.total.ops as f64 / (*records).max(1) as f64));
        if let Some(writer) = writer {
            let seconds = writer.elapsed.as_secs_f64().max(1e-9);
            set("writer_ops_per_s", Some(writer.total.ops as f64 / seconds));
            set("writer_max_us", Some(writer.latencies.max() as f64 / 1e3));
        }
        figures
    }

    /// Returns a number, if it was measured.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Returns the operations a second, which all have.
    pub(crate) fn rate(&self) -> f64 {
        self.get("ops_per_s").unwrap_or(0.0)
    }

    /// Returns the median of each number that any of the figures has.
    pub(crate) fn medians<'a>(all: impl Iterator<Item = &'a Figures>) -> Figures {
        let mut numbers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for figures in all {
            for (name, &number) in &figures.0 {
                numbers.entry(name.clone()).or_default().push(number);
            }
        }
        let medians = numbers.into_iter().filter_map(|(name, numbers)| {
            let median = median(numbers.into_iter())?;
            Some((name, median))
        });
        Figures(medians.collect())
    }

    pub(crate) fn fields(&self) -> Vec<(String, Json)> {
        self.0.iter().map(|(name, &number)| (name.clone(), Json::from(number))).collect()
    }

    /// Takes every number of an object; words and nothings are left out.
    pub(crate) fn from_json(object: &Json) -> Figures {
        let Json::Object(fields) = object else { return Figures::default() };
        let numbers = fields.iter().filter_map(|(name, value)| Some((name, value.number()?)));
        Figures(numbers.map(|(name, number)| (name.clone(), number)).collect())
    }
}

impl<const N: usize> From<[(&str, f64); N]> for Figures {
    fn from(numbers: [(&str, f64); N]) -> Figures {
        Figures(numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect())
    }
}

/// The median of a few numbers; of an even count, the mean of the middle two.
pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn medians_are_taken_of_what_is_there() {
        let all = [Figures::from([("a", 1.0), ("b", 5.0)]), Figures::from([("a", 3.0)])];
        assert_eq!(Figures::medians(all.iter()), Figures::from([("a", 2.0), ("b", 5.0)]));
    }

    #[test]
    fn figures_survive_json() {
        let figures = Figures::from([("ops_per_s", 1.5), ("p50_us", 0.25)]);
        let text = Json::Object(figures.fields()).to_string();
        assert_eq!(Figures::from_json(&Json::parse(&text).unwrap()), figures);
    }
}
