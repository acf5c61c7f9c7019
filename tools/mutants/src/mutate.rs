//! Adds mutants to a source file. Each mutant is an arm of a `match` on the number that selects the active mutant, so
//! that one build contains all mutants.

use proc_macro2::Span;
use quote::{ToTokens, quote};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{BinOp, Expr, ExprBinary, Stmt, UnOp, parse_quote};

/// A change of one operator, condition or function body.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mutant {
    pub number: u32,
    pub file: String,
    pub line: usize,
    /// Text of the source, and the text that replaces it.
    pub from: String,
    pub to: String,
}

/// Adds all mutants to a file, except those in `unviable`, which do not compile. The first mutant gets the number
/// `first`. Returns the new text and all mutants.
pub fn mutate(file: &str, text: &str, first: u32, unviable: &HashSet<u32>) -> syn::Result<(String, Vec<Mutant>)> {
    let mut syntax = syn::parse_file(text)?;
    let mut mutator = Mutator { file, first, unviable, mutants: Vec::new() };
    mutator.visit_file_mut(&mut syntax);
    Ok((prettyplease::unparse(&syntax), mutator.mutants))
}

struct Mutator<'a> {
    file: &'a str,
    first: u32,
    unviable: &'a HashSet<u32>,
    mutants: Vec<Mutant>,
}

/// Returns the operators that replace `op`. The table is cargo-mutants', but `<` and similar operators are also replaced
/// by their neighbours, such as `<=`, instead of by `==`.
fn replacements(op: &BinOp) -> Vec<BinOp> {
    match op {
        BinOp::Add(_) => vec![parse_quote!(-), parse_quote!(*)],
        BinOp::Sub(_) => vec![parse_quote!(+), parse_quote!(/)],
        BinOp::Mul(_) => vec![parse_quote!(+), parse_quote!(/)],
        BinOp::Div(_) => vec![parse_quote!(%), parse_quote!(*)],
        BinOp::Rem(_) => vec![parse_quote!(/), parse_quote!(+)],
        BinOp::Shl(_) => vec![parse_quote!(>>)],
        BinOp::Shr(_) => vec![parse_quote!(<<)],
        BinOp::BitAnd(_) => vec![parse_quote!(|), parse_quote!(^)],
        BinOp::BitOr(_) => vec![parse_quote!(&), parse_quote!(^)],
        BinOp::BitXor(_) => vec![parse_quote!(&), parse_quote!(|)],
        BinOp::And(_) => vec![parse_quote!(||)],
        BinOp::Or(_) => vec![parse_quote!(&&)],
        BinOp::Eq(_) => vec![parse_quote!(!=)],
        BinOp::Ne(_) => vec![parse_quote!(==)],
        BinOp::Lt(_) => vec![parse_quote!(<=), parse_quote!(>)],
        BinOp::Le(_) => vec![parse_quote!(<), parse_quote!(>)],
        BinOp::Gt(_) => vec![parse_quote!(>=), parse_quote!(<)],
        BinOp::Ge(_) => vec![parse_quote!(>), parse_quote!(<)],
        BinOp::AddAssign(_) => vec![parse_quote!(-=), parse_quote!(*=)],
        BinOp::SubAssign(_) => vec![parse_quote!(+=), parse_quote!(/=)],
        BinOp::MulAssign(_) => vec![parse_quote!(+=), parse_quote!(/=)],
        BinOp::DivAssign(_) => vec![parse_quote!(%=), parse_quote!(*=)],
        BinOp::BitAndAssign(_) => vec![parse_quote!(|=), parse_quote!(^=)],
        BinOp::BitOrAssign(_) => vec![parse_quote!(&=), parse_quote!(^=)],
        BinOp::BitXorAssign(_) => vec![parse_quote!(&=), parse_quote!(|=)],
        BinOp::ShlAssign(_) => vec![parse_quote!(>>=)],
        BinOp::ShrAssign(_) => vec![parse_quote!(<<=)],
        _ => Vec::new(),
    }
}

/// Returns the values that replace the result of a function.
fn results(output: &syn::ReturnType) -> Vec<Option<Expr>> {
    let syn::ReturnType::Type(_, output) = output else { return vec![None] };
    let values: Vec<Expr> = match output.to_token_stream().to_string().as_str() {
        "bool" => vec![parse_quote!(true), parse_quote!(false)],
        "f64" | "f32" => vec![parse_quote!(0.0), parse_quote!(1.0)],
        "usize" | "isize" | "i128" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "u128" => {
            vec![parse_quote!(0), parse_quote!(1)]
        }
        text if text.starts_with("Option <") => vec![parse_quote!(None)],
        "Result < () >" => vec![parse_quote!(Ok(()))],
        _ => Vec::new(),
    };
    values.into_iter().map(Some).collect()
}

/// Returns whether the attributes are those of test code.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string();
        text.contains("cfg (test)") || text == "# [test]"
    })
}

fn contains_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => contains_let(left) || contains_let(right),
        _ => false,
    }
}

impl Mutator<'_> {
    /// Adds a mutant. Returns its number if it is viable.
    fn add(&mut self, span: Span, from: impl ToString, to: impl ToString) -> Option<u32> {
        let number = self.first + self.mutants.len() as u32;
        let (from, to) = (from.to_string(), to.to_string());
        self.mutants.push(Mutant { number, file: self.file.to_owned(), line: span.start().line, from, to });
        (!self.unviable.contains(&number)).then_some(number)
    }

    /// Replaces a binary expression. Both operands are computed once, before the selection.
    fn binary(&mut self, node: &ExprBinary) -> Option<Expr> {
        let ExprBinary { left, op, right, .. } = node;
        let others = replacements(op);
        let mut arms: Vec<syn::Arm> = Vec::new();
        for other in &others {
            let Some(number) = self.add(op.span(), op.to_token_stream(), other.to_token_stream()) else { continue };
            arms.push(match op {
                BinOp::And(_) | BinOp::Or(_) => parse_quote!(#number => true,),
                _ if is_assignment(op) => parse_quote!(#number => #left #other right__,),
                _ => parse_quote!(#number => left__ #other right__,),
            });
        }
        if arms.is_empty() {
            return None;
        }
        let active = quote!(crate::mutant::active());
        Some(match op {
            // The right operand is computed only if it decides the result.
            BinOp::And(_) => parse_quote!(
                match #left { left__ => if left__ ^ match #active { #(#arms)* _ => false } { #right } else { left__ } }
            ),
            BinOp::Or(_) => parse_quote!(
                match #left { left__ => if !left__ ^ match #active { #(#arms)* _ => false } { #right } else { left__ } }
            ),
            _ if is_assignment(op) => {
                parse_quote!(match #right { right__ => match #active { #(#arms)* _ => #left #op right__ } })
            }
            // Comparisons borrow their operands.
            BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_) => parse_quote!(
                match (&(#left), &(#right)) {
                    (left__, right__) => match #active { #(#arms)* _ => left__ #op right__ }
                }
            ),
            _ => parse_quote!(
                match (#left, #right) {
                    (left__, right__) => match #active { #(#arms)* _ => left__ #op right__ }
                }
            ),
        })
    }

    fn condition(&mut self, cond: &mut Expr) {
        let own = matches!(cond, Expr::Path(_) | Expr::MethodCall(_) | Expr::Call(_) | Expr::Field(_));
        if own && let Some(number) = self.add(cond.span(), cond.to_token_stream(), "the opposite") {
            *cond = parse_quote!((#cond) ^ match crate::mutant::active() { #number => true, _ => false });
        }
    }

    fn body(&mut self, signature: &syn::Signature, block: &mut syn::Block) {
        if block.stmts.is_empty() || signature.constness.is_some() {
            return;
        }
        let name = format!("body of {}", signature.ident);
        let mut statements: Vec<Stmt> = Vec::new();
        for value in results(&signature.output) {
            let to = value.as_ref().map_or("nothing".to_owned(), |value| value.to_token_stream().to_string());
            if let Some(number) = self.add(signature.ident.span(), &name, to) {
                statements.push(parse_quote!(if crate::mutant::active() == #number { return #value; }));
            }
        }
        block.stmts.splice(0..0, statements);
    }
}

fn is_assignment(op: &BinOp) -> bool {
    op.to_token_stream().to_string().ends_with('=')
        && !matches!(op, BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Le(_) | BinOp::Ge(_))
}

impl VisitMut for Mutator<'_> {
    fn visit_expr_mut(&mut self, node: &mut Expr) {
        match node {
            // Constants are computed by the compiler, which does not know the active mutant.
            Expr::Const(_) => return,
            Expr::Repeat(repeat) => return self.visit_expr_mut(&mut repeat.expr),
            _ => visit_mut::visit_expr_mut(self, node),
        }
        let new = match &*node {
            Expr::Binary(binary) if !contains_let(node) => self.binary(binary),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_) | UnOp::Not(_)) => {
                let (op, value) = (unary.op, &unary.expr);
                self.add(op.span(), op.to_token_stream(), "no operator").map(|number| -> Expr {
                    parse_quote!(match #value { left__ => match crate::mutant::active() { #number => left__, _ => #op left__ } })
                })
            }
            Expr::MethodCall(call) if call.args.len() == 1 && (call.method == "min" || call.method == "max") => {
                let (method, left, right) = (&call.method, &call.receiver, &call.args[0]);
                let other = quote::format_ident!("{}", if method == "min" { "max" } else { "min" });
                self.add(method.span(), method, &other).map(|number| -> Expr {
                    parse_quote!(match (#left, #right) {
                        (left__, right__) => match crate::mutant::active() {
                            #number => left__.#other(right__), _ => left__.#method(right__)
                        }
                    })
                })
            }
            _ => None,
        };
        if let Some(new) = new {
            *node = new;
        }
    }

    fn visit_expr_if_mut(&mut self, node: &mut syn::ExprIf) {
        visit_mut::visit_expr_if_mut(self, node);
        self.condition(&mut node.cond);
    }

    fn visit_item_fn_mut(&mut self, node: &mut syn::ItemFn) {
        if node.sig.constness.is_none() && !is_test(&node.attrs) {
            self.visit_block_mut(&mut node.block);
            self.body(&node.sig, &mut node.block);
        }
    }

    fn visit_impl_item_fn_mut(&mut self, node: &mut syn::ImplItemFn) {
        if node.sig.constness.is_none() {
            self.visit_block_mut(&mut node.block);
            self.body(&node.sig, &mut node.block);
        }
    }

    fn visit_trait_item_fn_mut(&mut self, node: &mut syn::TraitItemFn) {
        if let Some(block) = node.default.as_mut().filter(|_| node.sig.constness.is_none()) {
            self.visit_block_mut(block);
            self.body(&node.sig, block);
        }
    }

    fn visit_item_mod_mut(&mut self, node: &mut syn::ItemMod) {
        if !is_test(&node.attrs) {
            visit_mut::visit_item_mod_mut(self, node);
        }
    }

    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}
    fn visit_item_static_mut(&mut self, _: &mut syn::ItemStatic) {}
    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}
    fn visit_trait_item_const_mut(&mut self, _: &mut syn::TraitItemConst) {}
    fn visit_pat_mut(&mut self, _: &mut syn::Pat) {}
    fn visit_type_mut(&mut self, _: &mut syn::Type) {}
    fn visit_generic_argument_mut(&mut self, _: &mut syn::GenericArgument) {}
    fn visit_attribute_mut(&mut self, _: &mut syn::Attribute) {}
}
