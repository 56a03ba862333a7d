//! Slurm's notation for lists of hosts and ports: `node[01-03,7],login`.

/// Most hosts a list may stand for; beyond the largest machines.
const HOSTS_MAX: usize = 1 << 17;
/// Longest list that is looked at.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Longest name of a host (RFC 1123). It also bounds how many brackets an item can have.
const NAME_BYTES_MAX: usize = 255;

/// All hosts of a list, in its order.
///
/// # Errors
/// In words, when it is malformed or stands for too many.
pub(crate) fn expand(list: &str) -> Result<Vec<String>, String> {
    if list.len() > TEXT_BYTES_MAX {
        return Err(format!("a host list of {} bytes is too long", list.len()));
    }
    let mut hosts = Vec::new();
    for item in split(list)? {
        expand_item(item, "", &mut hosts)?;
    }
    if hosts.is_empty() {
        return Err("the host list is empty".to_owned());
    }
    Ok(hosts)
}

/// The parts between commas that stand outside brackets.
fn split(list: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, byte) in list.bytes().enumerate() {
        match (byte, inside) {
            (b'[', false) => inside = true,
            (b']', true) => inside = false,
            (b'[', true) | (b']', false) => return Err(unbalanced(list)),
            (b',', false) => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(unbalanced(list));
    }
    items.push(list[start..].trim());
    items.retain(|item| !item.is_empty());
    Ok(items)
}

fn unbalanced(list: &str) -> String {
    format!("the brackets of the host list `{list}` do not match")
}

/// Appends what `item` stands for behind `prefix`. Items may have several brackets.
fn expand_item(item: &str, prefix: &str, hosts: &mut Vec<String>) -> Result<(), String> {
    let head_bytes = item.find('[').unwrap_or(item.len());
    if prefix.len() + head_bytes > NAME_BYTES_MAX {
        return Err(format!("a host's name in the list has more than {NAME_BYTES_MAX} bytes"));
    }
    let Some((head, rest)) = item.split_once('[') else {
        if hosts.len() >= HOSTS_MAX {
            return Err(format!("a host list of more than {HOSTS_MAX} hosts is too long"));
        }
        hosts.push(format!("{prefix}{item}"));
        return Ok(());
    };
    let (ranges, tail) = rest.split_once(']').ok_or_else(|| unbalanced(item))?;
    for range in ranges.split(',') {
        let malformed = || format!("`{range}` in the host list is no number or range");
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| -> Result<u64, String> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(malformed)
        };
        let (first, last) = (number(low)?, number(high)?);
        if last < first || last - first >= HOSTS_MAX as u64 {
            return Err(malformed());
        }
        // Leading zeros are part of the name.
        let width = low.len();
        for number in first..=last {
            expand_item(tail, &format!("{prefix}{head}{number:0width$}"), hosts)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_expand() {
        for (list, expected) in [
            ("a", "a"),
            ("a,b", "a b"),
            ("n[1-3]", "n1 n2 n3"),
            ("n[08-11],login", "n08 n09 n10 n11 login"),
            ("n[1,3-4,007]", "n1 n3 n4 n007"),
            ("r[1-2]c[0-1]-ib", "r1c0-ib r1c1-ib r2c0-ib r2c1-ib"),
            ("cn-0123.cluster", "cn-0123.cluster"),
        ] {
            assert_eq!(expand(list).unwrap().join(" "), expected, "{list}");
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        for list in ["", ",", "n[1-3", "n]", "n[[1]]", "n[]", "n[3-1]", "n[a-b]", "n[1-]", "n[-1]"]
        {
            assert!(expand(list).is_err(), "{list}");
        }
        assert!(expand("n[0-99999999999]").is_err(), "not that many");
        assert!(expand("n[0-2047][0-2047]").is_err(), "not that many");
        assert!(expand(&"a".repeat(256)).is_err(), "no such name");
        assert!(expand(&"[1]".repeat(300_000)).is_err(), "no such name, and no deep recursion");
        assert!(expand(&"a".repeat(255)).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_expands_or_fails(list in "[a-c0-9,\\[\\]-]{0,24}") {
            if let Ok(hosts) = expand(&list) {
                prop_assert!(!hosts.is_empty() && hosts.len() <= HOSTS_MAX);
            }
        }
    }
}
