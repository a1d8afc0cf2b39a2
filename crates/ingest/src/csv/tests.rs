use super::*;

/// Gives its bytes a few at a time, so that rows span reads.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(into.len()).min(self.0.len());
        into[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

type Rows = Vec<(u64, Vec<Option<String>>)>;

fn split(text: &[u8], step: usize, limits: &Limits) -> (Rows, Vec<(u64, Reason)>) {
    let mut reader = Dribble(text, step);
    let csv = Csv::default();
    let mut splitter = Splitter::new(&mut reader, &csv, b',', limits);
    let (mut rows, mut bad, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |chunk: Chunk<'_>| {
        for (i, row) in chunk.rows.iter().enumerate() {
            let fields = &chunk.fields[i * chunk.width..(i + 1) * chunk.width];
            let text =
                |f: &Span| chunk.text(*f, &mut scratch).map(|t| String::from_utf8_lossy(t).into_owned());
            rows.push((row.line, fields.iter().map(text).collect()));
        }
    };
    if !splitter.header(&mut bad).unwrap() {
        return (rows, Vec::new());
    }
    let width = splitter.chunk(None).width;
    take(splitter.chunk(None));
    while splitter.next(width, &mut bad).unwrap() {
        take(splitter.chunk(Some(width)));
    }
    (rows, bad.into_iter().map(|b| (b.line, b.reason)).collect())
}

fn row(line: u64, fields: &[Option<&str>]) -> (u64, Vec<Option<String>>) {
    (line, fields.iter().map(|f| f.map(str::to_string)).collect())
}

#[test]
fn an_empty_field_is_null_and_a_quoted_one_an_empty_string() {
    let (rows, bad) = split(b"a,b,c\n,\"\",x\n", 1, &Limits::default());
    assert_eq!(rows[1], row(2, &[None, Some(""), Some("x")]));
    assert!(bad.is_empty());
}

#[test]
fn quotes_hold_line_ends_delimiters_and_quotes() {
    let text = b"a,b\r\n\"x\ny\",\"he said \"\"hi\"\", twice\"\r\n\r\n1,2";
    for step in [1, 2, 3, 1000] {
        let (rows, bad) = split(text, step, &Limits::default());
        assert_eq!(rows[1], row(2, &[Some("x\ny"), Some("he said \"hi\", twice")]));
        assert_eq!(rows[2], row(5, &[Some("1"), Some("2")]), "the blank line is no row, but counts");
        assert!(bad.is_empty());
    }
}

#[test]
fn every_bad_row_is_set_aside_with_its_line_and_the_next_is_read() {
    let text = b"a,b\n1\n1,2,3\n\"x\"y,2\n1,2\n1,\"open\n2,3\n";
    for step in [1, 5, 1000] {
        let (rows, bad) = split(text, step, &Limits::default());
        assert_eq!(rows[1..], [row(5, &[Some("1"), Some("2")])]);
        let expected = [
            (2, Reason::TooFewFields),
            (3, Reason::TooManyFields),
            (4, Reason::BadQuote),
            (6, Reason::CutRow),
        ];
        assert_eq!(bad, expected);
    }
}

#[test]
fn a_quote_that_stays_open_for_too_many_lines_takes_only_its_own_line() {
    let limits = Limits { field_lines: 3, ..Limits::default() };
    let text =
        b"a,b\r\n1,x\r\n\"2\n\",\"open\r\n3,y\n4,z\n5,y\n\"q\nr\",7\n8,\"i\nj\nk\nl\"\n9,\"\n\n\n\n\n\nx,y\n";
    for step in [1, 5, 1000] {
        let (rows, bad) = split(text, step, &limits);
        let expected = [
            row(2, &[Some("1"), Some("x")]),
            row(5, &[Some("3"), Some("y")]),
            row(6, &[Some("4"), Some("z")]),
            row(7, &[Some("5"), Some("y")]),
            row(8, &[Some("q\nr"), Some("7")]),
            row(10, &[Some("8"), Some("i\nj\nk\nl")]),
            row(20, &[Some("x"), Some("y")]),
        ];
        assert_eq!(rows[1..], expected);
        assert_eq!(bad, [(3, Reason::OpenQuote), (14, Reason::OpenQuote)]);
    }
}

#[test]
fn a_stray_quote_of_a_large_file_costs_one_row() {
    let mut text = String::from("a,b\n");
    for n in 0..100_000 {
        text += &format!("{n},{}\n", if n == 7 { "\"" } else { "x" });
    }
    let (rows, bad) = split(text.as_bytes(), 4096, &Limits::default());
    assert_eq!((rows.len(), bad), (100_000, vec![(9, Reason::OpenQuote)]));
}

#[test]
fn a_last_row_without_line_end_is_cut_when_it_lacks_fields() {
    assert_eq!(split(b"a,b\n1", 7, &Limits::default()).1, [(2, Reason::CutRow)]);
    assert_eq!(split(b"a,b\n1,", 7, &Limits::default()).0.len(), 2);
}

#[test]
fn a_row_beyond_the_limits_is_passed_over_without_being_held() {
    let limits = Limits { row_bytes: 1024, field_bytes: 100, ..Limits::default() };
    let long = format!(
        "a,b\n1,{}\n{},{}\n\"{}\"\"\n,\",2\r\n3,4\n",
        "x".repeat(101),
        "y".repeat(90),
        "z".repeat(9000),
        "q".repeat(9000)
    );
    for step in [1, 13, 4096] {
        let (rows, bad) = split(long.as_bytes(), step, &limits);
        assert_eq!(rows.last().unwrap(), &row(6, &[Some("3"), Some("4")]));
        assert_eq!(bad, [(2, Reason::FieldTooLarge), (3, Reason::RowTooLarge), (4, Reason::RowTooLarge)]);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_header() {
    let (rows, _) = split(b"\xEF\xBB\xBFa,b\n1,2\n", 2, &Limits::default());
    assert_eq!(rows[0], row(1, &[Some("a"), Some("b")]));
}

#[test]
fn any_table_that_is_written_is_read_back_whatever_the_reads_sizes() {
    let mut seed = 7_u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..300 {
        let width = 2 + next(4) as usize;
        let mut text = (0..width).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",") + "\n";
        let mut expected = Vec::new();
        for _ in 0..next(40) {
            let fields: Vec<Option<String>> = (0..width)
                .map(|_| {
                    let len = next(12);
                    (next(5) > 0).then(|| {
                        (0..len).map(|_| ['a', ',', '"', '\n', '\r', 'é', '1'][next(7) as usize]).collect()
                    })
                })
                .collect();
            let written: Vec<String> = fields
                .iter()
                .map(|f| f.as_ref().map_or(String::new(), |f| format!("\"{}\"", f.replace('"', "\"\""))))
                .collect();
            text += &written.join(",");
            text += ["\n", "\r\n"][next(2) as usize];
            expected.push(fields);
        }
        let step = 1 + next(30) as usize;
        let (rows, bad) = split(text.as_bytes(), step, &Limits { row_bytes: 2048, ..Limits::default() });
        assert!(bad.is_empty(), "{bad:?} in {text:?}");
        assert_eq!(rows.into_iter().skip(1).map(|(_, r)| r).collect::<Vec<_>>(), expected);
    }
}
