use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use futures::TryStreamExt;
use futures::executor::block_on;
use iceberg::spec::DataFileFormat;

use super::*;
use crate::ErrorKind;
use crate::format::content::ContentReader;
use crate::storage::Storage;

/// A protobuf message that is being written.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, value: u64) -> Self {
        varint(&mut self.0, field << 3);
        varint(&mut self.0, value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn attribute(self, key: &str, value: &str) -> Self {
        self.bytes(7, &Self::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes()).0)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One number, in the first encoding.
fn one(value: u64) -> Vec<u8> {
    let mut out = vec![0xff];
    varint(&mut out, value);
    out
}

fn of(kind: u64) -> Message {
    Message::default().number(1, kind)
}

/// A file without compression.
#[derive(Default)]
struct Written {
    types: Vec<Message>,
    /// Kind and size of the dictionary.
    encodings: Vec<(u64, u64)>,
    /// Column, kind and bytes.
    streams: Vec<(u64, u64, Vec<u8>)>,
    rows: u64,
    /// How often the one stripe is listed.
    stripes: usize,
}

impl Written {
    /// A column `a`, of this type and those inside it.
    fn new(rows: u64, types: &[Message]) -> Self {
        let root = of(12).number(2, 1).bytes(3, b"a");
        let types: Vec<Message> = std::iter::once(root).chain(types.iter().cloned()).collect();
        Self { encodings: vec![(0, 0); types.len()], types, streams: Vec::new(), rows, stripes: 1 }
    }

    fn stream(mut self, column: u64, kind: u64, bytes: &[u8]) -> Self {
        self.streams.push((column, kind, bytes.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"ORC".to_vec();
        let mut stripe_footer = Message::default();
        for (column, kind, bytes) in &self.streams {
            let stream = Message::default().number(1, *kind).number(2, *column).number(3, bytes.len() as u64);
            stripe_footer = stripe_footer.bytes(1, &stream.0);
            file.extend_from_slice(bytes);
        }
        for (kind, size) in &self.encodings {
            stripe_footer = stripe_footer.bytes(2, &Message::default().number(1, *kind).number(2, *size).0);
        }
        let stripe = Message::default().number(1, 3).number(3, file.len() as u64 - 3);
        let stripe = stripe.number(4, stripe_footer.0.len() as u64).number(5, self.rows);
        file.extend_from_slice(&stripe_footer.0);
        let mut footer = Message::default().number(6, self.rows * self.stripes as u64);
        for _ in 0..self.stripes {
            footer = footer.bytes(3, &stripe.0);
        }
        for of in &self.types {
            footer = footer.bytes(4, &of.0);
        }
        file.extend_from_slice(&footer.0);
        let postscript = Message::default().number(1, footer.0.len() as u64).bytes(8000, b"ORC");
        file.extend_from_slice(&postscript.0);
        file.push(postscript.0.len() as u8);
        file
    }

    fn read(&self) -> Result<Vec<RecordBatch>> {
        let bytes = self.bytes();
        block_on(async {
            let (storage, size) = (Storage::new(), bytes.len() as u64);
            storage.write("memory://w/data.orc", bytes).await?;
            let reader =
                ContentReader::open(&storage, "memory://w/data.orc", size, DataFileFormat::Orc).await?;
            let columns = (0..reader.schema().fields().len()).collect();
            reader.rows(columns, None, 1000)?.map_ok(|rows| rows.batch).try_collect().await
        })
    }

    fn error(&self) -> Error {
        self.read().expect_err("the file is broken")
    }
}

const PRESENT: u64 = 0;
const DATA: u64 = 1;
const LENGTH: u64 = 2;
const DICTIONARY: u64 = 3;

#[test]
fn few_bytes_that_stand_for_much_are_read_in_small_batches_or_refused() {
    // 130 bytes of zeros for each 2: NULLs of 1 MiB each.
    let fixed = of(8).attribute("iceberg.binary-type", "FIXED").attribute("iceberg.length", "1048576");
    let fixed = Written::new(260, &[fixed]).stream(1, PRESENT, &[127, 0]);
    let batches = fixed.read().unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 260);
    assert!(batches.iter().all(|batch| batch.num_rows() < 256), "{} batches", batches.len());
    assert!(batches.iter().all(|batch| batch.column(0).null_count() == batch.num_rows()));

    // A list that says to have as many values as there can be.
    let list = Written::new(1, &[of(10).number(2, 2), of(4)]);
    let list = list.stream(1, LENGTH, &one(i32::MAX as u64)).stream(2, PRESENT, &[127, 0].repeat(100));
    assert_eq!(list.error().kind(), ErrorKind::Unsupported);
    // Two lists that are too long for a batch together, of nothing.
    let lists = Written::new(2, &[of(10).number(2, 2), of(12)]);
    let lists = lists.stream(1, LENGTH, &[one(40_000_000), one(40_000_000)].concat());
    assert_eq!(lists.read().unwrap().iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1]);
    let mut word = Written::new(1, &[of(7)]).stream(1, LENGTH, &one(1 << 40)).stream(1, DICTIONARY, b"word");
    word.encodings[1] = (1, 1);
    assert_eq!(word.error().kind(), ErrorKind::Unsupported);

    // Parts of a footer, which take 2 bytes each.
    let mut parts = Written::new(0, &[of(4)]);
    parts.types.resize(1 << 20, Message::default());
    assert!(parts.error().to_string().contains("too many parts"));
}

#[test]
fn a_stripe_is_read_once() {
    let mut file = Written::new(3, &[of(3)]).stream(1, DATA, &[0, 1, 2]);
    let batches = file.read().unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int32Type>().values(), &[1, 2, 3]);
    file.stripes = 2;
    assert!(file.error().to_string().contains("where another one is"));
}

#[test]
fn rows_are_there() {
    let file =
        |bits: u8| Written::new(3, &[of(3)]).stream(0, PRESENT, &[0xff, bits]).stream(1, DATA, &[0, 1, 2]);
    assert_eq!(file(0xe0).read().unwrap()[0].num_rows(), 3);
    assert!(file(0xa0).error().to_string().contains("a row of it is none"));
}

#[test]
fn texts_of_the_type_char_lose_the_spaces_at_their_end_and_others_keep_them() {
    for (kind, expected) in [(17, ["a b", "", "c"]), (16, ["a b  ", "   ", "c"]), (7, ["a b  ", "   ", "c"])]
    {
        let (lengths, words) = ([0xfd, 5, 3, 1], b"a b     c");
        let direct = Written::new(3, &[of(kind)]).stream(1, LENGTH, &lengths).stream(1, DATA, words);
        let mut dictionary = Written::new(3, &[of(kind)]).stream(1, LENGTH, &lengths);
        dictionary = dictionary.stream(1, DICTIONARY, words).stream(1, DATA, &[0xfd, 0, 1, 2]);
        dictionary.encodings[1] = (1, 3);
        for file in [direct, dictionary] {
            let batches = file.read().unwrap();
            let texts: Vec<_> = batches[0].column(0).as_string::<i32>().iter().flatten().collect();
            assert_eq!(texts, expected, "{kind}");
        }
    }
}

#[test]
fn values_of_a_fixed_size_may_be_in_a_dictionary() {
    let fixed = of(8).attribute("iceberg.binary-type", "FIXED").attribute("iceberg.length", "2");
    let mut file = Written::new(3, &[fixed]).stream(1, LENGTH, &[0xfe, 2, 2]);
    file = file.stream(1, DICTIONARY, b"abcd").stream(1, DATA, &[0xfd, 1, 0, 1]);
    file.encodings[1] = (1, 2);
    let batches = file.read().unwrap();
    let values: Vec<_> = batches[0].column(0).as_fixed_size_binary().iter().flatten().collect();
    assert_eq!(values, [b"cd", b"ab", b"cd"]);
    file.streams[0].2 = vec![0xfe, 1, 3];
    assert_eq!(file.error().kind(), ErrorKind::DataInvalid);
    file.streams[2].2 = one(2);
    assert_eq!(file.error().kind(), ErrorKind::DataInvalid);
}

#[test]
fn numbers_that_no_column_can_hold_are_errors() {
    // An int of 33 bits, a number of 65 bits, one of 129 bits.
    let int = Written::new(1, &[of(3)]).stream(1, DATA, &one(1 << 33));
    let mut long = Written::new(1, &[of(4)]).stream(1, DATA, &[0xff]);
    long.streams[0].2.extend([0xff; 9].into_iter().chain([3]));
    let mut decimal = Written::new(1, &[of(14).number(5, 38).number(6, 0)]).stream(1, DATA, &[0xff; 18]);
    decimal.streams[0].2.push(4);
    let decimal = decimal.stream(1, 5, &one(0));
    for file in [int, long, decimal] {
        assert_eq!(file.error().kind(), ErrorKind::DataInvalid);
    }
}

#[test]
fn a_chunk_may_not_refer_further_back_than_a_chunk_is_long() {
    // A Zstandard frame with a window of 128 MiB, and a block of one byte repeated 8 times.
    let chunk = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 8 << 3 | 3, 0, 0, b'x'];
    let read = |chunk: &[u8]| {
        let mut stream = vec![(chunk.len() as u8) << 1, 0, 0];
        stream.extend_from_slice(chunk);
        Input::new(Codec::new(5, None).unwrap(), stream.into()).all(100)
    };
    assert!(read(&chunk).is_err());
    let mut narrow = chunk;
    narrow[5] = 8 << 3;
    assert_eq!(read(&narrow).unwrap(), b"xxxxxxxx");
}
