//! Points in time on the command line: a commit timestamp, or an age.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use holm::{Db, Snapshot, Timestamp};

use crate::exit::{Failure, Result};

/// What `--at` takes: `483291…` as `ok @483291…` told it, or `-30s`, `-5m`, `-2h` before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Exactly(Timestamp),
    Ago(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<When, String> {
        let wrong = || {
            "a commit timestamp, or an age such as -500ms, -30s, -5m, -2h or -1d, is wanted"
                .to_string()
        };
        match text.strip_prefix('-') {
            Some(age) => Ok(When::Ago(parse_age(age).ok_or_else(wrong)?)),
            None => {
                let raw = text.strip_prefix('@').unwrap_or(text).parse().map_err(|_| wrong())?;
                Ok(When::Exactly(Timestamp::from_raw(raw)))
            }
        }
    }
}

fn parse_age(age: &str) -> Option<Duration> {
    let digits = age.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = age.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

impl When {
    /// Returns the database as it was then.
    ///
    /// # Errors
    /// If that is longer ago than is kept, or has not been reached.
    pub(crate) fn snapshot(self, db: &Db) -> Result<Snapshot> {
        let asked = match self {
            When::Exactly(timestamp) => timestamp,
            When::Ago(age) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let now = now.map_err(|_| Failure::new("the clock shows a time before 1970"))?;
                let wall_ms = now.saturating_sub(age).as_millis();
                // Since the last commit nothing has changed, however long ago it was.
                Timestamp::from_parts(u64::try_from(wall_ms).unwrap_or(u64::MAX), 0).min(db.now())
            }
        };
        Ok(db.at(asked)?)
    }
}

/// Returns the database as it was at a point in time, or as it is now.
pub(crate) fn snapshot(db: &Db, at: Option<When>) -> Result<Snapshot> {
    match at {
        Some(when) => when.snapshot(db),
        None => Ok(db.snapshot()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_timestamps_are_told_apart() {
        let check =
            |text: &str, ms| assert_eq!(text.parse(), Ok(When::Ago(Duration::from_millis(ms))));
        check("-500ms", 500);
        check("-30s", 30_000);
        check("-2h", 7_200_000);
        check("-1d", 86_400_000);
        assert_eq!("@7".parse(), Ok(When::Exactly(Timestamp::from_raw(7))));
        assert_eq!("7".parse(), Ok(When::Exactly(Timestamp::from_raw(7))));
        for wrong in ["", "-", "-5", "-m", "5m", "-99999999999999999999s", "yesterday"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
