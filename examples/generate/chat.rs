//! Prompts in the format that a chat model was trained on, given by the template in its checkpoint.

use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, context};

/// Returns the prompt for a user's message: the message in the template's format, followed by the beginning of the
/// answer.
pub fn prompt(checkpoint: &Checkpoint, message: &str) -> Result<String> {
    let template = checkpoint.optional_text("tokenizer.chat_template")?;
    let template = template.context("the checkpoint has no chat template; leave `--chat` out")?;
    let mut environment = Environment::new();
    // With these settings, templates give the same text as with Hugging Face transformers.
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    let token = |key| -> Result<String> {
        let id = checkpoint.token(key)?;
        Ok(id.map(|id| checkpoint.piece(id)).transpose()?.unwrap_or_default().to_string())
    };
    let rendered = environment.render_str(
        template,
        context! {
            messages => [context! { role => "user", content => message }],
            add_generation_prompt => true,
            bos_token => token("tokenizer.ggml.bos_token_id")?,
            eos_token => token("tokenizer.ggml.eos_token_id")?,
        },
    );
    rendered.context("the checkpoint's chat template can't be used; leave `--chat` out")
}
