//! Message sizes on the command line, and the sweep from `-b` to `-e`.

/// Parses `8`, `4K`, `1.5M`, `2G`: bytes, with K, M and G as powers of two.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let hint = "write bytes as 8, 4K, 64M or 1G (powers of two)";
    let trimmed = text.trim();
    let lower = trimmed.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match bare.as_bytes().last() {
        Some(b'k') => (&bare[..bare.len() - 1], 10),
        Some(b'm') => (&bare[..bare.len() - 1], 20),
        Some(b'g') => (&bare[..bare.len() - 1], 30),
        _ => (bare, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("'{text}' is not a size; {hint}"));
    }
    let number: u64 =
        digits.parse().map_err(|_| format!("'{text}' does not fit in 64 bits; {hint}"))?;
    number
        .checked_shl(shift)
        .filter(|n| n >> shift == number)
        .ok_or_else(|| format!("'{text}' does not fit in 64 bits; {hint}"))
}

/// The sizes from `begin` to `end`, each `factor` times the one before.
pub(crate) fn sweep(begin: u64, end: u64, factor: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut size = begin;
    while size <= end {
        sizes.push(size);
        match size.checked_mul(factor) {
            Some(next) if next > size => size = next,
            _ => break,
        }
    }
    sizes
}

/// `size` as a person writes it: `8 B`, `64 KiB`, `1.5 MiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, scale) in UNITS {
        if bytes >= scale {
            let value = bytes as f64 / scale as f64;
            return if bytes.is_multiple_of(scale) {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in
            [("8", 8), ("0", 0), ("4K", 4096), ("4k", 4096), ("64M", 64 << 20), ("1G", 1 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("16MB"), Ok(16 << 20));
        assert_eq!(parse_size(" 2K "), Ok(2048));
    }

    #[test]
    fn what_is_not_a_size_says_how_to_write_one() {
        for text in ["", "K", "-8", "1.5M", "8X", "0x10", "99999999999999999999", "99999999999G"] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains("64M"), "{text}: {error}");
        }
    }

    #[test]
    fn a_sweep_multiplies_and_stays_inside() {
        assert_eq!(sweep(8, 64, 2), [8, 16, 32, 64]);
        assert_eq!(sweep(8, 100, 4), [8, 32]);
        assert_eq!(sweep(5, 5, 2), [5]);
        assert_eq!(sweep(u64::MAX - 1, u64::MAX, 2), [u64::MAX - 1]);
        assert!(sweep(9, 8, 2).is_empty());
    }

    #[test]
    fn people_read_binary_units() {
        assert_eq!(human(8), "8 B");
        assert_eq!(human(64 << 20), "64 MiB");
        assert_eq!(human(1536), "1.5 KiB");
    }
}
