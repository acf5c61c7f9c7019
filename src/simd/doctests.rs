//! Examples of safe code that must not compile, because it would return memory that was not written.
//!
//! Each example compiles `output.rs` in another crate. The code in `main` is outside the module `simd`, as kernels are,
//! so it can use exactly the items that kernels can use. Each example that must not compile comes after one that
//! compiles. The two differ in one expression. rustdoc usually merges all examples of a crate into one program. These
//! examples cannot be merged, because `output.rs` has paths that begin with `crate::`. The attribute
//! `standalone_crate` makes rustdoc compile each of them alone.

macro_rules! outside_of_simd {
    ($name:ident, $attributes:literal, $code:literal) => {
        #[doc = concat!(
            "```standalone_crate,", $attributes, "\n#![allow(dead_code, unused)]\n",
            "use simd::output::{Output, Written};\nuse std::mem::MaybeUninit;\nmod error { pub use evenkeel::{Error, Result}; }\n",
            "mod simd {\n    pub use evenkeel::simd::Storage;\n",
            "    #[path = \"", env!("CARGO_MANIFEST_DIR"), "/src/simd/output.rs\"]\n    pub mod output;\n}\n",
            "fn main() {\n", $code, "\n}\n```",
        )]
        struct $name;
    };
}

outside_of_simd!(
    NewProof,
    "should_panic",
    "let (mut values, mut memory, mut kept) = ([0.0f32; 2], [MaybeUninit::<f32>::uninit(); 2], None);
    Output::from(&mut values[..]).write(|_| Ok((Written::default(), kept = Some(Written::default())))).unwrap();
    Output::<f32>::from(&mut memory[..]).write(|_| Ok((Written::default(), ()))).unwrap();"
);
outside_of_simd!(
    ProofOfAnEarlierCall,
    "compile_fail",
    "let (mut values, mut memory, mut kept) = ([0.0f32; 2], [MaybeUninit::<f32>::uninit(); 2], None);
    Output::from(&mut values[..]).write(|_| Ok((Written::default(), kept = Some(Written::default())))).unwrap();
    Output::<f32>::from(&mut memory[..]).write(|_| Ok((kept.unwrap(), ()))).unwrap();"
);

outside_of_simd!(
    ProofOfTheOuterCall,
    "should_panic",
    "let (mut values, mut memory) = ([0.0f32; 2], [MaybeUninit::<f32>::uninit(); 2]);
    Output::from(&mut values[..])
        .write(|_| {
            let outer = Written::default();
            Output::<f32>::from(&mut memory[..]).write(|_| Ok((Written::default(), ()))).unwrap();
            Ok((outer, ()))
        })
        .unwrap();"
);
outside_of_simd!(
    ProofOfTheOuterCallForTheInner,
    "compile_fail",
    "let (mut values, mut memory) = ([0.0f32; 2], [MaybeUninit::<f32>::uninit(); 2]);
    Output::from(&mut values[..])
        .write(|_| {
            let outer = Written::default();
            Output::<f32>::from(&mut memory[..]).write(|_| Ok((outer, ()))).unwrap();
            Ok((outer, ()))
        })
        .unwrap();"
);

outside_of_simd!(
    ProofOfValues,
    "",
    "let mut values = [0.0f32; 2];
    let _ = Written::from(&mut values[..]);"
);
outside_of_simd!(
    ProofOfUninitialisedMemory,
    "compile_fail",
    "let mut values = [MaybeUninit::<f32>::uninit(); 2];
    let _ = Written::from(&mut values[..]);"
);

outside_of_simd!(
    SplitMemory,
    "",
    "let mut values = [0.0f32; 2];
    Output::from(&mut values[..]).write(|to| Ok((Written::default(), drop(to.split_at(1))))).unwrap();"
);
outside_of_simd!(
    MemoryAsMaybeUninit,
    "compile_fail",
    "let mut values = [0.0f32; 2];
    Output::from(&mut values[..]).write(|to| Ok((Written::default(), drop(to.into_memory())))).unwrap();"
);
