//! Single instructions give the results that PTX documents, and the interpreter reports each kind of fault.

mod faults;
mod instructions;
mod support;
