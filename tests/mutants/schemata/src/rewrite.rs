//! Sources with all mutants in them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, BinOp, Expr, ExprBinary, Pat, ReturnType, Signature, Stmt, Type, UnOp, parse_quote};

/// What asks whether a mutant is chosen.
pub const CALL: &str = "chosen_mutant";

/// A change.
pub struct Mutant {
    pub id: u32,
    file: String,
    line: usize,
    function: String,
    what: String,
}

impl Mutant {
    /// The mutant, and those like it in the same function, without the line, which changes when others do.
    pub fn kind(&self) -> String {
        format!("{}: {} in {}", self.file, self.what, self.function)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} in {}", self.file, self.line, self.what, self.function)
    }
}

/// Rewrites files, and adds what chooses to the root of the crate. Numbers are the same in every run; those of `left_out` are
/// counted and not written.
pub fn rewrite(folder: &Path, files: &[PathBuf], left_out: &BTreeSet<u32>) -> Result<Vec<Mutant>, String> {
    let mut mutants = Vec::new();
    let root = folder.join("src/lib.rs");
    for path in files {
        let original = original(path)?;
        let mut file = syn::parse_file(&original).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut writer = Writer {
            file: path.strip_prefix(folder).unwrap_or(path).display().to_string(),
            functions: Vec::new(),
            left_out,
            mutants: &mut mutants,
        };
        writer.visit_file_mut(&mut file);
        save(path, &file.into_token_stream().to_string())?;
    }
    let choice = format!("{}\n{CHOICE}", original(&root)?);
    save(&root, &choice)?;
    Ok(mutants)
}

/// The file as it was before any rewriting.
fn original(path: &Path) -> Result<String, String> {
    let kept = path.with_extension("rs.original");
    let from = if kept.exists() { &kept } else { path };
    let text = fs::read_to_string(from).map_err(|error| format!("{}: {error}", from.display()))?;
    if !kept.exists() {
        save(&kept, &text)?;
    }
    Ok(text)
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

const CHOICE: &str = r#"
/// Whether this mutant is the one that `MUTANT` names.
pub(crate) fn chosen_mutant(id: u32) -> bool {
    static CHOSEN: std::sync::OnceLock<(u32, Option<String>)> = std::sync::OnceLock::new();
    static REACHED: std::sync::Mutex<std::collections::BTreeSet<u32>> = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let (chosen, log) = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("MUTANT").ok().and_then(|text| text.parse().ok());
        (chosen.unwrap_or(0), std::env::var("MUTANTS_REACHED").ok())
    });
    if let Some(log) = log {
        let mut reached = REACHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if reached.insert(id) {
            use std::io::Write;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
            let _ = file.and_then(|mut file| writeln!(file, "{id}"));
        }
    }
    *chosen == id
}
"#;

struct Writer<'a> {
    file: String,
    functions: Vec<String>,
    left_out: &'a BTreeSet<u32>,
    mutants: &'a mut Vec<Mutant>,
}

impl Writer<'_> {
    /// A new mutant; `None` where it is left out.
    fn add(&mut self, span: Span, what: String) -> Option<u32> {
        let id = u32::try_from(self.mutants.len()).ok()? + 1;
        self.mutants.push(Mutant {
            id,
            file: self.file.clone(),
            line: span.start().line,
            function: self.functions.join("::"),
            what,
        });
        (!self.left_out.contains(&id)).then_some(id)
    }

    fn function(&mut self, (attributes, signature): (&[Attribute], &Signature), body: &mut syn::Block) {
        if is_test(attributes) || signature.constness.is_some() {
            return;
        }
        self.functions.push(signature.ident.to_string());
        let mut first: Vec<Stmt> = Vec::new();
        if !body.stmts.is_empty() {
            for value in values(&signature.output, 0) {
                let shown = value.to_token_stream().to_string();
                let Some(id) = self.add(signature.ident.span(), format!("return `{shown}`")) else {
                    continue;
                };
                let call = call(id);
                first.push(parse_quote!(if #call { return #value; }));
            }
        }
        self.visit_block_mut(body);
        body.stmts.splice(0..0, first);
        self.functions.pop();
    }
}

fn call(id: u32) -> Expr {
    let name = syn::Ident::new(CALL, Span::call_site());
    parse_quote!(crate::#name(#id))
}

/// What a function could return instead.
fn values(output: &ReturnType, depth: u32) -> Vec<Expr> {
    let ReturnType::Type(_, output) = output else {
        return vec![parse_quote!(())];
    };
    values_of(output, depth)
}

fn values_of(output: &Type, depth: u32) -> Vec<Expr> {
    let path = match output {
        Type::Tuple(tuple) if tuple.elems.is_empty() => return vec![parse_quote!(())],
        Type::Reference(reference) if reference.elem.to_token_stream().to_string() == "str" => {
            return vec![parse_quote!(""), parse_quote!("xyzzy")];
        }
        Type::Path(path) => &path.path,
        _no_value_of_it_is_known => return Vec::new(),
    };
    let Some(last) = path.segments.last() else {
        return Vec::new();
    };
    let argument = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            syn::GenericArgument::Type(inner) => Some(inner),
            _other => None,
        }),
        _none => None,
    };
    let inner = |depth| argument.map(|inner| values_of(inner, depth)).unwrap_or_default();
    match last.ident.to_string().as_str() {
        "bool" => vec![parse_quote!(true), parse_quote!(false)],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" | "u128" => {
            vec![parse_quote!(0), parse_quote!(1)]
        }
        "f32" | "f64" => vec![parse_quote!(0.0), parse_quote!(1.0)],
        "String" => vec![parse_quote!(String::new()), parse_quote!("xyzzy".into())],
        "Option" if depth < 2 => {
            let some = inner(depth + 1).into_iter().map(|value| parse_quote!(Some(#value)));
            std::iter::once(parse_quote!(None)).chain(some).collect()
        }
        "Result" if depth < 2 => inner(depth + 1)
            .into_iter()
            .map(|value| parse_quote!(Ok(#value)))
            .collect(),
        "Vec" => vec![parse_quote!(Vec::new())],
        "Self" => Vec::new(),
        _unknown => vec![parse_quote!(Default::default())],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string();
        text.contains("cfg (test") || text.contains("test]") || text.contains(":: test") || text == "# [test]"
    })
}

/// What an operator could be instead.
fn others(operator: &BinOp) -> Vec<BinOp> {
    match operator {
        BinOp::Eq(_) => vec![parse_quote!(!=)],
        BinOp::Ne(_) => vec![parse_quote!(==)],
        BinOp::Lt(_) => vec![parse_quote!(==), parse_quote!(>), parse_quote!(<=)],
        BinOp::Gt(_) => vec![parse_quote!(==), parse_quote!(<), parse_quote!(>=)],
        BinOp::Le(_) => vec![parse_quote!(>)],
        BinOp::Ge(_) => vec![parse_quote!(<)],
        BinOp::And(_) => vec![parse_quote!(||)],
        BinOp::Or(_) => vec![parse_quote!(&&)],
        BinOp::Add(_) => vec![parse_quote!(-), parse_quote!(*)],
        BinOp::Sub(_) => vec![parse_quote!(+), parse_quote!(/)],
        BinOp::Mul(_) => vec![parse_quote!(+), parse_quote!(/)],
        BinOp::Div(_) => vec![parse_quote!(%), parse_quote!(*)],
        BinOp::Rem(_) => vec![parse_quote!(/), parse_quote!(+)],
        BinOp::BitAnd(_) => vec![parse_quote!(|), parse_quote!(^)],
        BinOp::BitOr(_) => vec![parse_quote!(&), parse_quote!(^)],
        BinOp::BitXor(_) => vec![parse_quote!(|), parse_quote!(&)],
        BinOp::Shl(_) => vec![parse_quote!(>>)],
        BinOp::Shr(_) => vec![parse_quote!(<<)],
        BinOp::AddAssign(_) => vec![parse_quote!(-=), parse_quote!(*=)],
        BinOp::SubAssign(_) => vec![parse_quote!(+=), parse_quote!(/=)],
        BinOp::BitOrAssign(_) => vec![parse_quote!(&=), parse_quote!(^=)],
        BinOp::BitAndAssign(_) => vec![parse_quote!(|=), parse_quote!(^=)],
        _rare => Vec::new(),
    }
}

/// Whether a condition binds names: then it can stand only where it stands.
fn binds(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, right, .. }) => binds(left) || binds(right),
        Expr::Paren(paren) => binds(&paren.expr),
        _other => false,
    }
}

/// Whether a pattern takes everything.
fn takes_all(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) => true,
        Pat::Ident(name) => {
            name.subpat.is_none()
                && name
                    .ident
                    .to_string()
                    .starts_with(|c: char| c == '_' || c.is_lowercase())
        }
        _other => false,
    }
}

impl VisitMut for Writer<'_> {
    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit_mut::visit_item_mod_mut(self, module);
        }
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        let of_people = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        // What people read is judged by people.
        if !is_test(&item.attrs) && of_people.is_none_or(|name| name.ident != "Display" && name.ident != "Debug") {
            self.functions
                .push(item.self_ty.to_token_stream().to_string().replace(' ', ""));
            visit_mut::visit_item_impl_mut(self, item);
            self.functions.pop();
        }
    }

    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        self.function((&item.attrs, &item.sig), &mut item.block);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        self.function((&item.attrs, &item.sig), &mut item.block);
    }

    fn visit_item_const_mut(&mut self, _constant: &mut syn::ItemConst) {}

    fn visit_item_static_mut(&mut self, _constant: &mut syn::ItemStatic) {}

    fn visit_impl_item_const_mut(&mut self, _constant: &mut syn::ImplItemConst) {}

    fn visit_item_enum_mut(&mut self, _item: &mut syn::ItemEnum) {}

    fn visit_type_mut(&mut self, _type: &mut Type) {}

    fn visit_pat_mut(&mut self, _pattern: &mut Pat) {}

    fn visit_attribute_mut(&mut self, _attribute: &mut Attribute) {}

    fn visit_expr_match_mut(&mut self, item: &mut syn::ExprMatch) {
        let has_rest = item
            .arms
            .last()
            .is_some_and(|arm| arm.guard.is_none() && takes_all(&arm.pat));
        let last = item.arms.len().saturating_sub(1);
        for (index, arm) in item.arms.iter_mut().enumerate() {
            if arm.guard.as_ref().is_some_and(|(_, guard)| binds(guard)) {
                continue;
            }
            let mut conditions: Vec<Expr> = Vec::new();
            if has_rest && index < last {
                let shown: String = arm.pat.to_token_stream().to_string().chars().take(60).collect();
                let id = self.add(arm.pat.span(), format!("delete the arm `{shown}`"));
                conditions.extend(id.map(call).map(|call| parse_quote!(!#call)));
            }
            match &mut arm.guard {
                Some((_, guard)) => {
                    let span = guard.span();
                    let (yes, no) = (
                        self.add(span, "guard `true`".to_owned()),
                        self.add(span, "guard `false`".to_owned()),
                    );
                    self.visit_expr_mut(guard);
                    let mut condition: Expr = parse_quote!((#guard));
                    if let Some(call) = yes.map(call) {
                        condition = parse_quote!((#call || #condition));
                    }
                    conditions.extend(no.map(call).map(|call| parse_quote!(!#call)));
                    conditions.push(condition);
                }
                None => {}
            }
            if let Some(first) = conditions.pop() {
                let all = conditions
                    .into_iter()
                    .fold(first, |all, condition| parse_quote!(#condition && #all));
                arm.guard = Some((Default::default(), Box::new(all)));
            }
        }
        self.visit_expr_mut(&mut item.expr);
        item.arms.iter_mut().for_each(|arm| self.visit_expr_mut(&mut arm.body));
    }

    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        match expression {
            Expr::Binary(binary) if !binds(&binary.left) && !binds(&binary.right) => {
                let operator = binary.op;
                let shown = |operator: &BinOp| operator.to_token_stream().to_string();
                let others: Vec<(u32, BinOp)> = others(&operator)
                    .into_iter()
                    .filter_map(|other| {
                        let what = format!("`{}` instead of `{}`", shown(&other), shown(&operator));
                        Some((self.add(operator.span(), what)?, other))
                    })
                    .collect();
                self.visit_expr_mut(&mut binary.left);
                self.visit_expr_mut(&mut binary.right);
                let (left, right) = (&binary.left, &binary.right);
                let mut chosen: Expr = parse_quote!({ (#left) #operator (#right) });
                for (id, other) in others {
                    let call = call(id);
                    chosen = parse_quote!(if #call { (#left) #other (#right) } else #chosen);
                }
                *expression = parse_quote!((#chosen));
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) && !binds(&unary.expr) => {
                let id = self.add(unary.span(), "without `!`".to_owned());
                self.visit_expr_mut(&mut unary.expr);
                let inner = &unary.expr;
                if let Some(call) = id.map(call) {
                    *expression = parse_quote!((if #call { (#inner) } else { !(#inner) }));
                }
            }
            _ => visit_mut::visit_expr_mut(self, expression),
        }
    }
}
