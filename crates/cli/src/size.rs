//! Sizes as people write them: "256MiB".

use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// What is taken for a unit, in lower case, and how many bytes it is.
const UNITS: [(&str, u64); 11] = [
    ("b", 1),
    ("kib", 1 << 10),
    ("k", 1 << 10),
    ("mib", 1 << 20),
    ("m", 1 << 20),
    ("gib", 1 << 30),
    ("g", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let wanted = || "a size is wanted, with its unit: 256MiB, 1.5GiB".to_string();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
        let number: f64 = number.parse().map_err(|_| wanted())?;
        let bytes = number * *factor as f64;
        // Beyond it a float is no longer exact, and no machine has so much.
        if bytes > (1u64 << 52) as f64 {
            return Err("that is more memory than any machine has".to_string());
        }
        Ok(Size(bytes as usize))
    }
}

/// Least memory that a database works with: memtables of the smallest size, and a few blocks.
const MEMORY_BYTES_MIN: usize = 4 << 20;

/// Takes a size as a memory budget.
pub(crate) fn memory(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    if size.0 < MEMORY_BYTES_MIN {
        return Err("a database needs 4MiB at least".to_string());
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes(" 1.5 gib"), Ok(3 << 29));
        assert_eq!(bytes("64m"), Ok(64 << 20));
        assert_eq!(bytes("10MB"), Ok(10_000_000));
        assert_eq!(bytes("100b"), Ok(100));
        for bad in ["", "256", "MiB", "-1MiB", "1e3MiB", "2 potatoes", "1..5MiB", "1MiBs"] {
            assert!(bytes(bad).unwrap_err().contains("256MiB"), "{bad}");
        }
        assert!(bytes("99999999TiB").unwrap_err().contains("machine"));
        assert!(memory("1MiB").unwrap_err().contains("at least"));
        assert_eq!(memory("4MiB"), Ok(Size(4 << 20)));
    }
}
