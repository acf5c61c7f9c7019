//! The gradient of rotary embedding: the rotation by the opposite angle.

use super::rope::Rope;

impl Rope<'_> {
    /// What turns back what this one turns.
    pub fn backward(self) -> Self {
        Rope { direction: -self.direction, ..self }
    }
}
