//! Integer keys that have the order of the floats they encode. A maximum of floats thus becomes a maximum of integers.

macro_rules! keys {
    ($of:ident, $to:ident, $float:ty, $key:ty) => {
        /// Returns the key of a float. A NaN has the largest key.
        pub fn $of(x: $float) -> $key {
            const SIGN: $key = !(<$key>::MAX >> 1);
            let bits = x.to_bits();
            match x.is_nan() {
                true => <$key>::MAX,
                false if bits & SIGN == 0 => bits | SIGN,
                false => !bits,
            }
        }

        /// Returns the float that a key encodes. Every NaN becomes the same NaN. All other floats keep their bits.
        pub fn $to(key: $key) -> $float {
            const SIGN: $key = !(<$key>::MAX >> 1);
            match key {
                <$key>::MAX => <$float>::NAN,
                key if key & SIGN == 0 => <$float>::from_bits(!key),
                key => <$float>::from_bits(key ^ SIGN),
            }
        }
    };
}

keys!(of_f32, to_f32, f32, u32);
keys!(of_f64, to_f64, f64, u64);
