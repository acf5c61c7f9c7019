//! stub
/// Real
pub trait Real {}
impl Real for f64 {}
/// DD
pub struct DoubleDouble;
impl Real for DoubleDouble {}
