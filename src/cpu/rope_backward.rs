//! Gradient of rotary embedding: the rotation by the opposite angle.

use super::rope::Rope;

impl Rope<'_> {
    /// Returns the inverse rotation.
    pub fn backward(self) -> Self {
        Rope { direction: -self.direction, ..self }
    }
}
