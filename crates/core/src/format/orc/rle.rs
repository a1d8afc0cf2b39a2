//! Run-length encodings: of bytes, of bits, and the two of integers (ORC specification v1, "Run Length Encoding").

use super::input::Input;
use crate::error::Result;
use crate::format::source::broken;

/// Runs of bytes.
#[derive(Debug, Clone)]
pub(super) struct Octets {
    input: Input,
    left: usize,
    /// What is repeated; `None` in a run of different bytes.
    repeated: Option<u8>,
}

impl Octets {
    pub(super) fn new(input: Input) -> Self {
        Self { input, left: 0, repeated: None }
    }

    pub(super) fn next(&mut self) -> Result<u8> {
        if self.left == 0 {
            let control = self.input.byte()? as i8;
            if control >= 0 {
                self.left = control as usize + 3;
                self.repeated = Some(self.input.byte()?);
            } else {
                self.left = usize::from(control.unsigned_abs());
                self.repeated = None;
            }
        }
        self.left -= 1;
        match self.repeated {
            Some(byte) => Ok(byte),
            None => self.input.byte(),
        }
    }
}

/// Bits, the highest of a byte first.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    octets: Octets,
    byte: u8,
    left: u8,
}

impl Bits {
    pub(super) fn new(input: Input) -> Self {
        Self { octets: Octets::new(input), byte: 0, left: 0 }
    }

    pub(super) fn next(&mut self) -> Result<bool> {
        if self.left == 0 {
            self.byte = self.octets.next()?;
            self.left = 8;
        }
        self.left -= 1;
        Ok(self.byte >> self.left & 1 == 1)
    }
}

/// Which encoding integers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Runs of integers.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    input: Input,
    signed: bool,
    version: Version,
    run: Vec<i64>,
    at: usize,
}

impl Integers {
    pub(super) fn new(input: Input, signed: bool, version: Version) -> Self {
        Self { input, signed, version, run: Vec::new(), at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<i64> {
        loop {
            if let Some(value) = self.run.get(self.at) {
                self.at += 1;
                return Ok(*value);
            }
            self.run.clear();
            self.at = 0;
            match self.version {
                Version::V1 => self.run_v1()?,
                Version::V2 => self.run_v2()?,
            }
        }
    }

    /// A value that counts something.
    pub(super) fn length(&mut self) -> Result<usize> {
        usize::try_from(self.next()?).map_err(|_| broken("a length in it is negative"))
    }

    fn run_v1(&mut self) -> Result<()> {
        let control = self.input.byte()? as i8;
        if control >= 0 {
            let step = i64::from(self.input.byte()? as i8);
            let mut value = self.varint()?;
            for _ in 0..i32::from(control) + 3 {
                self.run.push(value);
                value = value.wrapping_add(step);
            }
        } else {
            for _ in 0..control.unsigned_abs() {
                let value = self.varint()?;
                self.run.push(value);
            }
        }
        Ok(())
    }

    fn run_v2(&mut self) -> Result<()> {
        let first = self.input.byte()?;
        match first >> 6 {
            0 => {
                let width = usize::from(first >> 3 & 7) + 1;
                let value = self.big_endian(width)?;
                let value = self.whole(value);
                self.run.resize(usize::from(first & 7) + 3, value);
            }
            1 => {
                let length = self.run_length(first)?;
                let mut unpacked = Unpacked::default();
                let width = width(first >> 1 & 31);
                for _ in 0..length {
                    let value = unpacked.next(&mut self.input, width)?;
                    let value = self.whole(value);
                    self.run.push(value);
                }
            }
            2 => self.patched(first)?,
            _ => self.deltas(first)?,
        }
        Ok(())
    }

    /// The 9 bits of a run's length.
    fn run_length(&mut self, first: u8) -> Result<usize> {
        Ok((usize::from(first & 1) << 8 | usize::from(self.input.byte()?)) + 1)
    }

    /// Values above a base, packed narrow, and patches for those few that are wider.
    fn patched(&mut self, first: u8) -> Result<()> {
        let value_width = width(first >> 1 & 31);
        let length = self.run_length(first)?;
        let (third, fourth) = (self.input.byte()?, self.input.byte()?);
        let base_bytes = usize::from(third >> 5) + 1;
        let patch_width = width(third & 31);
        let gap_width = u32::from(fourth >> 5) + 1;
        let patches = usize::from(fourth & 31);
        let base = self.big_endian(base_bytes)?;
        // The highest bit is the sign.
        let sign = 1_u64 << (base_bytes * 8 - 1);
        let base = if base & sign == 0 { base as i64 } else { ((base & !sign) as i64).wrapping_neg() };
        let mut unpacked = Unpacked::default();
        let mut values = Vec::with_capacity(length);
        for _ in 0..length {
            values.push(unpacked.next(&mut self.input, value_width)?);
        }
        let entry_width = patch_width + gap_width;
        if entry_width > 64 || value_width >= 64 {
            return Err(broken("a run of integers in it is none"));
        }
        let entry_width = fixed_width(entry_width);
        let mut unpacked = Unpacked::default();
        let mut at = 0;
        for _ in 0..patches {
            let entry = unpacked.next(&mut self.input, entry_width)?;
            let patch = if patch_width == 64 { entry } else { entry & ((1 << patch_width) - 1) };
            let gap = entry.checked_shr(patch_width).unwrap_or_default();
            at += usize::try_from(gap).map_err(|_| broken("a run of integers in it is none"))?;
            // A gap of more than 255 is spread over entries without a patch.
            if patch == 0 {
                continue;
            }
            let value = values.get_mut(at).ok_or_else(|| broken("a run of integers in it is none"))?;
            *value |= patch.checked_shl(value_width).unwrap_or_default();
        }
        self.run.extend(values.into_iter().map(|value| base.wrapping_add(value as i64)));
        Ok(())
    }

    fn deltas(&mut self, first: u8) -> Result<()> {
        let code = first >> 1 & 31;
        let length = self.run_length(first)?;
        let mut value = self.varint()?;
        self.run.push(value);
        let step = unzigzag(self.unsigned()?);
        if code == 0 {
            for _ in 1..length {
                value = value.wrapping_add(step);
                self.run.push(value);
            }
            return Ok(());
        }
        if length > 1 {
            value = value.wrapping_add(step);
            self.run.push(value);
        }
        let (width, mut unpacked) = (width(code), Unpacked::default());
        for _ in 2..length {
            let delta = unpacked.next(&mut self.input, width)? as i64;
            value = if step < 0 { value.wrapping_sub(delta) } else { value.wrapping_add(delta) };
            self.run.push(value);
        }
        Ok(())
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64> {
        let mut value = 0;
        for _ in 0..bytes {
            value = value << 8 | u64::from(self.input.byte()?);
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok(self.whole(value))
    }

    fn unsigned(&mut self) -> Result<u64> {
        u64::try_from(self.input.varint()?).map_err(|_| broken("a number in it is too large"))
    }

    fn whole(&self, value: u64) -> i64 {
        if self.signed { unzigzag(value) } else { value as i64 }
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The width in bits that a code of 5 bits stands for.
fn width(code: u8) -> u32 {
    match code {
        0..=23 => u32::from(code) + 1,
        24 => 26,
        25 => 28,
        26 => 30,
        27 => 32,
        28 => 40,
        29 => 48,
        30 => 56,
        _ => 64,
    }
}

/// The least width that has a code and is not less.
fn fixed_width(bits: u32) -> u32 {
    (0..32).map(width).find(|width| *width >= bits).unwrap_or(64)
}

/// Integers of so many bits, the highest first, without gaps.
#[derive(Debug, Default)]
struct Unpacked {
    held: u128,
    bits: u32,
}

impl Unpacked {
    fn next(&mut self, input: &mut Input, width: u32) -> Result<u64> {
        while self.bits < width {
            self.held = self.held << 8 | u128::from(input.byte()?);
            self.bits += 8;
        }
        self.bits -= width;
        let value = self.held >> self.bits;
        self.held &= (1 << self.bits) - 1;
        Ok(value as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::orc::input::Codec;

    fn input(bytes: &[u8]) -> Input {
        Input::new(Codec::new(0, None).unwrap(), bytes.to_vec().into())
    }

    fn integers(bytes: &[u8], signed: bool, version: Version) -> Vec<i64> {
        let mut integers = Integers::new(input(bytes), signed, version);
        std::iter::from_fn(|| integers.next().ok()).collect()
    }

    #[test]
    fn the_examples_of_the_specification_are_decoded() {
        let v1 = |bytes| integers(bytes, false, Version::V1);
        assert_eq!(v1(&[0x61, 0x00, 0x07]), [7; 100]);
        assert_eq!(v1(&[0x61, 0xff, 0x64]), (1..=100).rev().collect::<Vec<_>>());
        assert_eq!(v1(&[0xfb, 0x02, 0x03, 0x06, 0x07, 0x0b]), [2, 3, 6, 7, 11]);
        let v2 = |bytes| integers(bytes, false, Version::V2);
        assert_eq!(v2(&[0x0a, 0x27, 0x10]), [10_000; 5]);
        let direct = [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef];
        assert_eq!(v2(&direct), [23_713, 43_806, 57_005, 48_879]);
        let patched = [
            0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a,
            0x64, 0x6e, 0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8,
        ];
        let mut expected = vec![2030, 2000, 2020, 1_000_000];
        expected.extend((2040..=2190).step_by(10));
        assert_eq!(v2(&patched), expected);
        let primes = [0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46];
        assert_eq!(v2(&primes), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        let mut octets = Octets::new(input(&[0x61, 0x00, 0xfe, 0x44, 0x45]));
        let octets: Vec<u8> = std::iter::from_fn(|| octets.next().ok()).collect();
        assert_eq!(octets, [vec![0; 100], vec![0x44, 0x45]].concat());
        let mut bits = Bits::new(input(&[0xff, 0x80]));
        let bits: Vec<bool> = std::iter::from_fn(|| bits.next().ok()).collect();
        assert_eq!(bits, [true, false, false, false, false, false, false, false]);
    }

    #[test]
    fn signed_integers_reach_both_ends() {
        // A direct run of 2 values of 64 bits.
        let mut bytes = vec![0x7e, 0x01];
        for value in [u64::MAX, u64::MAX - 1] {
            bytes.extend(value.to_be_bytes());
        }
        assert_eq!(integers(&bytes, true, Version::V2), [i64::MIN, i64::MAX]);
    }
}
