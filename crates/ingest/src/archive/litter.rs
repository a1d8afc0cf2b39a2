//! Members that systems leave in archives beside the files that were meant: attributes, views of folders, thumbnails.

/// Names of files and folders that systems make by themselves, in small letters.
const NAMES: [&str; 11] = [
    ".ds_store",
    ".appledouble",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "@eadir",
];

/// Files that hold the attributes of another file begin so, in the forms that macOS calls AppleDouble and AppleSingle.
const APPLE: [[u8; 4]; 2] = [[0, 5, 0x16, 7], [0, 5, 0x16, 0]];

/// Whether a path is one under which a system keeps what is no file of the drop.
pub(crate) fn is_litter(path: &str) -> bool {
    path.split('/').any(is_system_name) || is_apple_double(path)
}

/// Whether a name is one that a system gives to a file or folder of its own.
pub(crate) fn is_system_name(name: &str) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_apple_double(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with("._"))
}

/// Whether a file of such a name that could be one of a table may go all the same: it holds attributes, or nothing.
pub(crate) fn holds_nothing_of_a_table(head: &[u8]) -> bool {
    head.is_empty() || APPLE.iter().any(|apple| head.starts_with(apple))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_systems_give_are_known() {
        for path in ["._a.csv", "x/._a.csv", "__MACOSX/._a.csv", "__MACOSX/a.csv", ".DS_Store", "a/THUMBS.DB"]
        {
            assert!(is_litter(path), "{path}");
        }
        for path in ["a.csv", "_a.csv", ".a.csv", "a._b.csv", "thumbs.db.csv", "MACOSX/a.csv"] {
            assert!(!is_litter(path), "{path}");
        }
    }
}
