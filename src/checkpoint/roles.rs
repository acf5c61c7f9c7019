//! The role of a tensor in a model, derived from its name.

/// Role of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Weight of a norm.
    Norm {
        /// Whether the norm applies to the queries or keys of attention heads.
        of_heads: bool,
    },
    /// Embedding table, with one row per token.
    Embedding,
    Other,
}

/// Returns the role of a tensor. It recognises common names such as `model.layers.0.input_layernorm.weight`,
/// `transformer.h.0.ln_1.weight`, `blk.0.attn_k_norm.weight`, `model.embed_tokens.weight` and `token_embd.weight`.
pub(crate) fn role(name: &str) -> Role {
    let name = name.to_lowercase();
    let Some(module) = name.strip_suffix(".weight").and_then(|path| path.rsplit('.').next()) else {
        return Role::Other;
    };
    const EMBEDDINGS: [&str; 6] =
        ["embed_tokens", "token_embd", "wte", "word_embeddings", "tok_embeddings", "embed_in"];
    if EMBEDDINGS.contains(&module) {
        return Role::Embedding;
    }
    if !(module.ends_with("norm") || module.starts_with("ln_") || module == "ln") {
        return Role::Other;
    }
    // Removes the suffix from names like `q_norm`, `attn_k_norm` and `query_layernorm`. The rest says what is
    // normalised.
    let of = module.trim_end_matches("norm").trim_end_matches("layer").trim_end_matches('_');
    let of_heads = ["q", "k", "qk", "query", "key"].contains(&of.rsplit('_').next().unwrap_or(of));
    Role::Norm { of_heads }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use() {
        for name in [
            "model.norm.weight",
            "model.layers.3.input_layernorm.weight",
            "transformer.h.0.ln_1.weight",
            "transformer.ln_f.weight",
            "blk.0.attn_norm.weight",
            "output_norm.weight",
            "encoder.layer.0.output.LayerNorm.weight",
        ] {
            assert_eq!(role(name), Role::Norm { of_heads: false }, "{name}");
        }
        for name in [
            "model.layers.0.self_attn.k_norm.weight",
            "blk.12.attn_q_norm.weight",
            "model.layers.0.self_attn.query_layernorm.weight",
        ] {
            assert_eq!(role(name), Role::Norm { of_heads: true }, "{name}");
        }
        for name in ["model.embed_tokens.weight", "token_embd.weight", "transformer.wte.weight"] {
            assert_eq!(role(name), Role::Embedding, "{name}");
        }
        for name in ["model.layers.0.mlp.up_proj.weight", "model.norm.bias", "norm", "weight", "", "lnx.weight"] {
            assert_eq!(role(name), Role::Other, "{name}");
        }
    }
}
