//! The tanh form of the Gaussian error linear unit.

elementwise_op! {
    /// The tanh form of the Gaussian error linear unit of each element, which GPT-2 and Gemma were trained with; 0.044715 is the decimal number.
    ///
    /// # Formula
    /// ```text
    /// y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -0 |
    /// | +inf | +inf |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 1 ULP in f64.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) where `EVENKEEL_SIMD` asks for what is not there; `_into` also
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch).
    ///
    /// # Panics
    /// Never.
    ///
    /// # Source
    /// Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2.
    ///
    /// # Example
    /// ```
    /// // Seven digits, of which one is left where 1 is added to tanh.
    /// let y = evenkeel::gelu_tanh(&[1.0f32, -5.0])?;
    /// assert_eq!(y, [0.841192, -2.2917962e-7]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_tanh, gelu_tanh_into, gelu_tanh_in_place
}

elementwise_backward_op! {
    /// The gradient of [`gelu_tanh`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (s + x z' s (1 - s)), s = 1 / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | -0 for dy above 0 |
    /// | +inf | dy |
    /// | NaN, or dy is NaN | NaN |
    /// | any other, and dy is 0 | that 0, also where there is no slope |
    ///
    /// The last keeps what a mask took out of the loss from coming back as NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64, there of the larger of the slope's two terms times dy, which cancel
    /// where the slope crosses zero. A dy that brings a slope back into the type's range is no exception.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all have one length;
    /// [`Error::Backend`](crate::Error::Backend) as the function itself.
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::gelu_tanh_backward(&[1.0f32, -0.7524614], &[1.0, 1.0])?;
    /// assert_eq!(dx, [1.0829641, 2.0773268e-8]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_tanh_backward, gelu_tanh_backward_into, gelu_tanh_backward_in_place, GeluTanh
}
