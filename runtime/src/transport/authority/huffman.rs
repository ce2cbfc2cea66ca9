//! Huffman's code for strings (RFC 7541, section 5.2 and appendix B), as far as it takes to find where its symbols begin.

/// How many symbols have a code of 0, 1, 2, ... bits: 257 with the one that marks the end. The code is canonical: codes of a length are
/// consecutive numbers, and go on where those a bit shorter end. So a code's length follows from these numbers alone.
const SYMBOLS: [u32; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The end mark: a string that has it is malformed (section 5.2).
const END: Symbol = Symbol { code: 0x3fff_ffff, bits: 30 };

/// `%` and `/`, which an authority cannot have, and `-`, which it can. The codes of all three have 6 bits.
const UNFIT: [Symbol; 2] = [Symbol { code: 0x15, bits: 6 }, Symbol { code: 0x18, bits: 6 }];
const FIT: Symbol = Symbol { code: 0x16, bits: 6 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Symbol {
    code: u32,
    bits: usize,
}

/// Replaces the unfit bytes of a coded string, in place and bit for bit. One that is malformed stays as it is.
pub(super) fn make_fit(coded: &mut [u8]) {
    for at in unfit(coded).unwrap_or_default() {
        for bit in 0..FIT.bits {
            let is_set = (FIT.code >> (FIT.bits - 1 - bit)) & 1 == 1;
            let (byte, mask) = ((at + bit) / 8, 0x80 >> ((at + bit) % 8));
            if is_set { coded[byte] |= mask } else { coded[byte] &= !mask }
        }
    }
}

/// At which bits the codes of unfit bytes begin. `None` when the string is malformed.
fn unfit(coded: &[u8]) -> Option<Vec<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match symbol(coded, at) {
            Ok(END) => return None,
            Ok(symbol) => {
                if UNFIT.contains(&symbol) {
                    found.push(at);
                }
                at += symbol.bits;
            }
            Err(rest) => {
                // Less than a byte of ones, which begins the end mark, fills the last byte.
                let is_padding = rest.bits < 8 && rest.code == (1 << rest.bits) - 1;
                return is_padding.then_some(found);
            }
        }
    }
}

/// The symbol whose code begins at the bit `at`; where the string ends before the code does, those bits.
fn symbol(coded: &[u8], at: usize) -> Result<Symbol, Symbol> {
    // `first` is the first code of as many bits as have been read.
    let (mut code, mut first) = (0, 0);
    for (bits, symbols) in SYMBOLS.iter().enumerate().skip(1) {
        let bit = at + bits - 1;
        let Some(byte) = coded.get(bit / 8) else { return Err(Symbol { code, bits: bits - 1 }) };
        code = (code << 1) | u32::from((byte >> (7 - bit % 8)) & 1);
        first <<= 1;
        if code < first + symbols {
            return Ok(Symbol { code, bits });
        }
        first += symbols;
    }
    Ok(END) // Not reached: every 30 bits begin with a code.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete_and_its_last_word_is_the_end_mark() {
        assert_eq!(SYMBOLS.iter().sum::<u32>(), 257);
        let mut first = 0;
        for symbols in SYMBOLS {
            first = (first << 1) + symbols;
        }
        assert_eq!(first, 1 << 30, "no 30 bits are left over, and none are given twice");
        assert_eq!(symbol(&[0xff; 4], 0), Ok(END));
    }

    #[test]
    fn symbols_are_found_in_an_example_of_the_rfc() {
        // Appendix C.4.1.
        let coded = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let (mut lengths, mut at) = (Vec::new(), 0);
        while let Ok(symbol) = symbol(coded, at) {
            lengths.push(symbol.bits);
            at += symbol.bits;
        }
        //                    w  w  w  .  e  x  a  m  p  l  e  .  c  o  m
        assert_eq!(lengths, [7, 7, 7, 6, 5, 7, 5, 6, 6, 6, 5, 6, 5, 5, 6]);
        let mut same = *coded;
        make_fit(&mut same);
        assert_eq!(same, *coded);
    }

    #[test]
    fn unfit_bytes_are_replaced_wherever_they_begin() {
        // The code of `0` has 5 bits, so that the others begin at every bit of a byte in turn.
        for zeros in 0..16 {
            for unfit in UNFIT {
                let string = |symbol: Symbol| {
                    let zero = Symbol { code: 0, bits: 5 };
                    let mut symbols = vec![zero; zeros];
                    symbols.extend([symbol, zero, symbol]);
                    pack(&symbols)
                };
                let mut coded = string(unfit);
                make_fit(&mut coded);
                assert_eq!(coded, string(FIT), "behind {zeros} zeros");
            }
        }
    }

    #[test]
    fn malformed_strings_stay_as_they_are() {
        let slash = UNFIT[1];
        let zeros_at_the_end = vec![0x60];
        let too_much_padding = vec![0b0110_0011, 0xff];
        let with_the_end_mark = pack(&[slash, END, slash]);
        for malformed in [zeros_at_the_end, too_much_padding, with_the_end_mark] {
            let mut same = malformed.clone();
            make_fit(&mut same);
            assert_eq!(same, malformed);
        }
    }

    fn pack(symbols: &[Symbol]) -> Vec<u8> {
        let mut bits: Vec<bool> = symbols
            .iter()
            .flat_map(|symbol| (0..symbol.bits).rev().map(|bit| (symbol.code >> bit) & 1 == 1))
            .collect();
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| (sum << 1) | u8::from(*bit))).collect()
    }
}
