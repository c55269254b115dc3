//! Makes Rust of the window's words: a function for each message of `assets/words`.
//!
//! A message that a language lacks, or that has other arguments there, is told here, and nothing is built. A function that
//! nobody calls, and a call of one that is not there, are told by the compiler. At run time nothing is parsed or looked up:
//! a message without arguments is a `&'static str`.
//!
//! Of Fluent (<https://projectfluent.org/fluent/guide>) this knows text, arguments, and a choice by a whole number with the
//! plural categories of CLDR. Names of people need no isolation there: they come in without anything that directs letters
//! (`link::display_name`).

fn main() -> Result<(), String> {
    #[cfg(feature = "window")]
    words::write()?;
    Ok(())
}

#[cfg(feature = "window")]
mod words {
    use std::{collections::BTreeSet, env, fs, path::Path};

    use fluent_syntax::{
        ast::{
            Entry, Expression, InlineExpression, Message, Pattern, PatternElement, Resource,
            Variant, VariantKey,
        },
        parser,
    };

    /// Where the words are.
    const FOLDER: &str = "../assets/words";
    /// Files, and the variants of `Language` that they are for. The first one is complete by definition.
    const LANGUAGES: [(&str, &str); 3] = [("en", "English"), ("de", "German"), ("es", "Spanish")];
    /// Plural categories that any of these languages has, as CLDR and as `Plural` call them.
    const CATEGORIES: [(&str, &str); 3] = [("one", "One"), ("many", "Many"), ("other", "Other")];

    pub(crate) fn write() -> Result<(), String> {
        let (mut texts, mut parsed) = (Vec::new(), Vec::new());
        for (file, _language) in LANGUAGES {
            let path = format!("{FOLDER}/{file}.ftl");
            tell_cargo(&path);
            let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            texts.push((path, text));
        }
        for (path, text) in &texts {
            let resource = parser::parse(text.as_str())
                .map_err(|(_rest, errors)| format!("{path}: {}", told(text, &errors)))?;
            parsed.push(messages(path, resource)?);
        }
        let out = env::var("OUT_DIR").map_err(|error| error.to_string())?;
        let path = Path::new(&out).join("words.rs");
        fs::write(&path, code(&parsed)?).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn tell_cargo(path: &str) {
        println!("cargo:rerun-if-changed={path}");
    }

    fn told(text: &str, errors: &[parser::ParserError]) -> String {
        let line = |at: usize| text.get(..at).map_or(0, |before| before.lines().count());
        let errors = errors.iter();
        let errors = errors.map(|error| format!("line {}: {error}", line(error.pos.start)));
        errors.collect::<Vec<_>>().join(", ")
    }

    /// A message of a file.
    struct Word<'text> {
        id: &'text str,
        value: Pattern<&'text str>,
        arguments: Vec<Argument<'text>>,
    }

    impl Word<'_> {
        fn names(&self) -> BTreeSet<&str> {
            self.arguments
                .iter()
                .map(|argument| argument.name)
                .collect()
        }
    }

    struct Argument<'text> {
        name: &'text str,
        /// A form is chosen by it: a whole number.
        chooses: bool,
    }

    fn messages<'text>(
        path: &str,
        resource: Resource<&'text str>,
    ) -> Result<Vec<Word<'text>>, String> {
        let (mut words, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in resource.body {
            let (id, value) = match entry {
                Entry::Message(Message {
                    id,
                    value: Some(value),
                    attributes,
                    ..
                }) if attributes.is_empty() => (id.name, value),
                Entry::Message(message) => {
                    let id = message.id.name;
                    return Err(format!("{path}: {id} has no value, or attributes"));
                }
                Entry::Comment(_) | Entry::GroupComment(_) | Entry::ResourceComment(_) => continue,
                Entry::Term(term) => return Err(format!("{path}: -{} is a term", term.id.name)),
                Entry::Junk { content } => return Err(format!("{path}: {content}")),
            };
            if !seen.insert(id) {
                return Err(format!("{path}: {id} stands there twice"));
            }
            let mut arguments = Vec::new();
            arguments_of(&value, &mut arguments)
                .map_err(|error| format!("{path}: {id}: {error}"))?;
            words.push(Word {
                id,
                value,
                arguments,
            });
        }
        Ok(words)
    }

    /// In the order in which they come first.
    fn arguments_of<'text>(
        pattern: &Pattern<&'text str>,
        arguments: &mut Vec<Argument<'text>>,
    ) -> Result<(), String> {
        let mut note =
            |name, chooses| match arguments.iter_mut().find(|argument| argument.name == name) {
                Some(argument) => argument.chooses |= chooses,
                None => arguments.push(Argument { name, chooses }),
            };
        for element in &pattern.elements {
            let PatternElement::Placeable { expression } = element else {
                continue;
            };
            note(
                variable(expression)?,
                matches!(expression, Expression::Select { .. }),
            );
        }
        for element in &pattern.elements {
            if let PatternElement::Placeable {
                expression: Expression::Select { variants, .. },
            } = element
            {
                for variant in variants {
                    arguments_of(&variant.value, arguments)?;
                }
            }
        }
        Ok(())
    }

    fn variable<'text>(expression: &Expression<&'text str>) -> Result<&'text str, String> {
        let inline = match expression {
            Expression::Select { selector, .. } => selector,
            Expression::Inline(inline) => inline,
        };
        match inline {
            InlineExpression::VariableReference { id } => Ok(id.name),
            InlineExpression::StringLiteral { .. }
            | InlineExpression::NumberLiteral { .. }
            | InlineExpression::FunctionReference { .. }
            | InlineExpression::MessageReference { .. }
            | InlineExpression::TermReference { .. }
            | InlineExpression::Placeable { .. } => {
                Err("only arguments stand between braces".into())
            }
        }
    }

    /// All functions, in the order of the first file.
    fn code(parsed: &[Vec<Word<'_>>]) -> Result<String, String> {
        let Some((first, others)) = parsed.split_first() else {
            return Err("no language".into());
        };
        let mut code = String::new();
        for ((file, _language), words) in LANGUAGES.iter().skip(1).zip(others) {
            let unknown = words
                .iter()
                .find(|word| first.iter().all(|known| known.id != word.id));
            if let Some(word) = unknown {
                return Err(format!("{file}.ftl: {} is not in en.ftl", word.id));
            }
        }
        for word in first {
            let all = parsed.iter().flatten().filter(|own| own.id == word.id);
            let all = all.flat_map(|own| &own.arguments);
            let numbers: BTreeSet<&str> = all
                .filter(|argument| argument.chooses)
                .map(|argument| argument.name)
                .collect();
            let mut arms = String::new();
            for ((file, language), words) in LANGUAGES.iter().zip(parsed) {
                let Some(own) = words.iter().find(|own| own.id == word.id) else {
                    return Err(format!("{file}.ftl: {} is missing", word.id));
                };
                if own.names() != word.names() {
                    return Err(format!("{file}.ftl: {} has other arguments", word.id));
                }
                let value = value(&own.value, language, &numbers)
                    .map_err(|error| format!("{file}.ftl: {}: {error}", word.id))?;
                arms.push_str(&format!(
                    "        Language::{language} => {},\n",
                    value.code
                ));
            }
            let arguments: Vec<String> = word
                .arguments
                .iter()
                .map(|Argument { name, .. }| {
                    let is_number = numbers.contains(name);
                    let kind = if is_number { "u64" } else { "impl Display" };
                    format!("{}: {kind}", rust(name))
                })
                .collect();
            let made = if word.arguments.is_empty() {
                "&'static str"
            } else {
                "String"
            };
            code.push_str(&format!(
                "#[must_use]\npub(crate) fn {}({}) -> {made} {{\n    match language() {{\n{arms}    }}\n}}\n\n",
                rust(word.id),
                arguments.join(", "),
            ));
        }
        Ok(code)
    }

    /// An identifier of Fluent as one of Rust.
    fn rust(id: &str) -> String {
        id.replace('-', "_")
    }

    struct Value {
        code: String,
        is_owned: bool,
    }

    fn owned(value: Value) -> Value {
        if value.is_owned {
            return value;
        }
        Value {
            code: format!("{}.to_owned()", value.code),
            is_owned: true,
        }
    }

    /// An expression whose value is the text, in which `numbers` are written as the language writes them.
    fn value(
        pattern: &Pattern<&str>,
        language: &str,
        numbers: &BTreeSet<&str>,
    ) -> Result<Value, String> {
        let (mut text, mut shown, mut forms) = (String::new(), BTreeSet::new(), Vec::new());
        for (index, element) in pattern.elements.iter().enumerate() {
            let expression = match element {
                PatternElement::TextElement { value } => {
                    text.push_str(value);
                    continue;
                }
                PatternElement::Placeable { expression } => expression,
            };
            let argument = variable(expression)?;
            let name = rust(argument);
            match expression {
                Expression::Inline(_) if numbers.contains(argument) => {
                    shown.insert(format!(", {name}_ = number(Language::{language}, {name})"));
                    text.push_str(&format!("{{{name}_}}"));
                }
                Expression::Inline(_) => text.push_str(&format!("{{{name}}}")),
                Expression::Select { variants, .. } => {
                    let arms = choice(variants, language, numbers)?;
                    let form = format!("form{index}");
                    text.push_str(&format!("{{{form}}}"));
                    let choice = format!("match plural(Language::{language}, {name}) {{ {arms} }}");
                    forms.push((form, choice));
                }
            }
        }
        let is_owned = text.contains('{');
        let shown: String = shown.into_iter().collect();
        let code = match forms.as_slice() {
            [] if !is_owned => format!("{text:?}"),
            // The choice is all there is.
            [(name, form)] if text == format!("{{{name}}}") => form.clone(),
            forms => {
                let forms = forms.iter();
                let forms: String = forms
                    .map(|(name, form)| format!("let {name} = {form}; "))
                    .collect();
                format!("{{ {forms}format!({text:?}{shown}) }}")
            }
        };
        Ok(Value { code, is_owned })
    }

    /// The arms of a choice by plural category: what is not named goes with the default.
    fn choice(
        variants: &[Variant<&str>],
        language: &str,
        numbers: &BTreeSet<&str>,
    ) -> Result<String, String> {
        let mut left: Vec<(&str, &str)> = CATEGORIES.into();
        let mut arms = String::new();
        for variant in variants.iter().filter(|variant| !variant.default) {
            let VariantKey::Identifier { name } = &variant.key else {
                return Err("forms are chosen by plural categories alone".into());
            };
            let Some(at) = left.iter().position(|(known, _)| known == name) else {
                return Err(format!("{name} is no plural category here"));
            };
            let (_, category) = left.remove(at);
            let value = owned(value(&variant.value, language, numbers)?);
            arms.push_str(&format!("Plural::{category} => {}, ", value.code));
        }
        let Some(default) = variants.iter().find(|variant| variant.default) else {
            return Err("a choice has no default".into());
        };
        let rest: Vec<String> = left
            .iter()
            .map(|(_, category)| format!("Plural::{category}"))
            .collect();
        let value = owned(value(&default.value, language, numbers)?);
        arms.push_str(&format!("{} => {}", rest.join(" | "), value.code));
        Ok(arms)
    }
}
