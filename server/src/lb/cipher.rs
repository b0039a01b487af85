//! How server id and nonce are hidden: AES-128 over one block of 16 bytes, or a Feistel network of four rounds
//! with AES-128 as its round function over any other length (sections 5.4.1 and 5.4.2 of the draft).

use std::fmt;

use aes::{
    Aes128,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};

/// Bytes of a block of AES.
const AES_BYTES: usize = 16;
/// Bytes of the longer half of the longest block, 19 bytes.
const HALF_BYTES: usize = 10;

/// A key, made ready.
#[derive(Clone)]
pub(super) struct Cipher(Aes128);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    pub(super) fn new(key: [u8; AES_BYTES]) -> Self {
        Self(Aes128::new(&key.into()))
    }

    /// Encrypts 5 to 19 bytes in place.
    pub(super) fn seal(&self, block: &mut [u8]) {
        if let Ok(block) = <&mut [u8; AES_BYTES]>::try_from(&mut *block) {
            self.0.encrypt_block(block.into());
            return;
        }
        let mut halves = Halves::split(block);
        for pass in 1..=4 {
            halves.apply(pass, &self.0);
        }
        halves.join(block);
    }

    /// Decrypts 5 to 19 bytes in place, of which only the first `wanted` need be right.
    pub(super) fn open(&self, block: &mut [u8], wanted: usize) {
        if let Ok(block) = <&mut [u8; AES_BYTES]>::try_from(&mut *block) {
            self.0.decrypt_block(block.into());
            return;
        }
        let mut halves = Halves::split(block);
        for pass in [4, 3, 2] {
            halves.apply(pass, &self.0);
        }
        // The last pass changes the right half alone, and is a third of the work.
        if wanted > block.len() / 2 {
            halves.apply(1, &self.0);
        }
        halves.join(block);
    }
}

/// A block cut in two of equal length. Of an odd number of bytes the one in the middle is cut in two as well:
/// its upper four bits end the left half, its lower four begin the right one.
struct Halves {
    left: [u8; HALF_BYTES],
    right: [u8; HALF_BYTES],
    /// Bytes of the block.
    length: usize,
}

impl Halves {
    fn split(block: &[u8]) -> Self {
        let mut halves =
            Self { left: [0; HALF_BYTES], right: [0; HALF_BYTES], length: block.len() };
        let half = halves.half();
        halves.left[..half].copy_from_slice(&block[..half]);
        halves.right[..half].copy_from_slice(&block[block.len() - half..]);
        halves.clear();
        halves
    }

    fn join(&self, block: &mut [u8]) {
        let half = self.half();
        block[..half].copy_from_slice(&self.left[..half]);
        match self.is_odd() {
            false => block[half..].copy_from_slice(&self.right[..half]),
            true => {
                block[half - 1] |= self.right[0];
                block[half..].copy_from_slice(&self.right[1..half]);
            }
        }
    }

    /// One pass, which is its own inverse: the odd ones change the right half by the left one, the others the
    /// left by the right.
    fn apply(&mut self, pass: u8, aes: &Aes128) {
        let half = self.half();
        let (from, to) = match pass % 2 {
            1 => (&self.left, &mut self.right),
            _ => (&self.right, &mut self.left),
        };
        let mut mask = [0; AES_BYTES];
        mask[..half].copy_from_slice(&from[..half]);
        // At most 19.
        mask[14] = self.length as u8;
        mask[15] = pass;
        aes.encrypt_block((&mut mask).into());
        to.iter_mut().zip(&mask[..half]).for_each(|(byte, mask)| *byte ^= mask);
        self.clear();
    }

    /// Clears the bits of the middle byte that a half doesn't have.
    fn clear(&mut self) {
        if self.is_odd() {
            self.left[self.half() - 1] &= 0xf0;
            self.right[0] &= 0x0f;
        }
    }

    fn half(&self) -> usize {
        self.length.div_ceil(2)
    }

    fn is_odd(&self) -> bool {
        self.length % 2 == 1
    }
}
