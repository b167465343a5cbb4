//! Rings: three functions of random signatures that call each other in tail position, and what must
//! come of it.
//!
//! Nothing is random in what a ring does: each function mixes all its arguments into a sum, so that
//! one that arrives wrong changes all that follows, and calls the next with some of them in other
//! places and with new ones. What must come out is known by construction ([`Ring::expected`]), also
//! of what the oracle lacks: typed references and exceptions. Functions are spread over two
//! instances, and each calls the next directly, through a table, or by reference. In between some
//! make an ordinary call into the ring, as the entries do; those of a ring with exceptions throw in
//! the end, or return.

use std::fmt::Write as _;

use awsm_sandbox::TrapKind;

use crate::generate::Call;
use crate::random::Random;
use crate::trace::{Ended, Value as Seen};

/// Functions of a ring.
const FUNCTIONS: usize = 3;
/// Parameters of a function, at most.
const PARAMS_MAX: u64 = 30;
/// How far the calls go round, and how many ordinary calls they make on their way.
const ROUNDS: [(u32, u32); 5] = [(0, 0), (1, 0), (2, 1), (7, 2), (1000, 3)];
/// The same with exceptions: what linked instances keep of these is bounded.
const ROUNDS_WITH_EXCEPTIONS: [(u32, u32); 5] = [(0, 0), (1, 0), (2, 1), (7, 2), (60, 5)];

/// A ring of a seed.
#[derive(Debug)]
pub struct Ring {
    /// Two modules as text; the second imports from the first, which is called `first`, and has the
    /// entries.
    pub modules: [String; 2],
    /// Calls of the second.
    pub calls: Vec<Call>,
    /// What must come of each.
    pub expected: Vec<Ended>,
    /// Does the oracle know everything that is in it?
    pub is_known_to_oracle: bool,
}

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    I32,
    I64,
    F32,
    F64,
    V128,
    Func,
    Extern,
    /// A reference to a function of type `$answer`.
    Typed,
    Exn,
}

/// A value; of a reference, what is found behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
    V128(u64, u64),
    Func(Option<u64>),
    Extern(Option<u32>),
    Exn(Option<u64>),
}

/// Where an argument or a result comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The parameter with this number.
    Param(usize),
    /// Made of the sum and a number.
    Made(u64),
    /// These bits of a float.
    Bits(u64),
}

/// How a function is called.
#[derive(Clone, Copy, Debug)]
enum Way {
    Direct,
    Table,
    Reference,
}

#[derive(Debug)]
struct Function {
    params: Vec<Type>,
    /// Number of the module that it is in.
    module: usize,
    /// How it calls the next one in tail position, and with what.
    way: Way,
    args: Vec<Source>,
    /// How it makes an ordinary call of the next one, how far that goes round, and with what; if it
    /// does.
    inner: Option<(Way, u32, Vec<Source>)>,
    /// Are exceptions of that call caught?
    catches: bool,
    /// Is the call in tail position in a block that would catch exceptions? It leaves that before.
    in_try: bool,
    /// What is returned in the end.
    results: Vec<Source>,
}

/// What is to be generated.
struct Shape {
    functions: Vec<Function>,
    results: Vec<Type>,
    exceptions: bool,
    references: bool,
}

/// The ring of a seed.
#[must_use]
pub fn ring(seed: u64) -> Ring {
    let mut random = Random::new(seed, 3);
    let shape = shape(&mut random);
    let entries: Vec<_> = (0..FUNCTIONS).map(|first| shape.entry(first, &mut random)).collect();
    let rounds = if shape.exceptions { ROUNDS_WITH_EXCEPTIONS } else { ROUNDS };
    let (mut calls, mut expected) = (Vec::new(), Vec::new());
    for (first, (_, args)) in entries.iter().enumerate() {
        for (number, (left, inner)) in rounds.into_iter().enumerate() {
            let sum = random.next();
            let host = (number % 2 == 0).then_some(number as u32 + 7);
            let arguments =
                vec![Seen::I32(left), Seen::I32(inner), Seen::I64(sum), Seen::ExternRef(host)];
            for (name, in_tail_position) in [("call", false), ("tail", true)] {
                let mut world = World { shape: &shape, left, inner, sum, host };
                calls.push(Call { name: format!("{name}{first}"), arguments: arguments.clone() });
                expected.push(world.enter(first, args, in_tail_position));
            }
        }
    }
    let modules = [0, 1].map(|number| shape.text(number, &entries));
    let is_known_to_oracle = !shape.exceptions && !shape.references;
    Ring { modules, calls, expected, is_known_to_oracle }
}

fn shape(random: &mut Random) -> Shape {
    let exceptions = random.below(4) == 0;
    let references = exceptions || random.below(3) == 0;
    let mut types = vec![Type::I32, Type::I64, Type::F32, Type::F64, Type::V128];
    types.extend([Type::Func, Type::Extern]);
    if references {
        types.push(Type::Typed);
    }
    if exceptions {
        types.push(Type::Exn);
    }
    let count = random.pick(&[0, 1, 1, 2, 3, 4, 5]);
    let results = (0..count).map(|_| random.pick(&types)).collect();
    let signatures: Vec<_> = (0..FUNCTIONS).map(|_| params(&types, random)).collect();
    let modules: Vec<_> = (0..FUNCTIONS).map(|_| random.below(2) as usize).collect();
    let mut shape = Shape { functions: Vec::new(), results, exceptions, references };
    for number in 0..FUNCTIONS {
        let next = (number + 1) % FUNCTIONS;
        let (own, wanted) = (&signatures[number], &signatures[next]);
        let sources = |wanted: &[Type], random: &mut Random| -> Vec<Source> {
            wanted.iter().map(|ty| source(*ty, own, random)).collect()
        };
        // What is in the first module knows nothing of the second but the table.
        let is_in_reach = modules[next] <= modules[number];
        let ways: &[Way] = match (is_in_reach, references) {
            (false, _) => &[Way::Table],
            (true, false) => &[Way::Direct, Way::Table],
            (true, true) => &[Way::Direct, Way::Table, Way::Reference],
        };
        let function = Function {
            params: own.clone(),
            module: modules[number],
            way: random.pick(ways),
            args: sources(wanted, random),
            inner: (random.below(3) > 0)
                .then(|| (random.pick(ways), random.below(5) as u32, sources(wanted, random))),
            catches: exceptions && random.below(2) == 0,
            in_try: exceptions && random.below(2) == 0,
            results: sources(&shape.results, random),
        };
        shape.functions.push(function);
    }
    shape
}

/// Any number of parameters, of all types or mostly of those that share a kind of registers.
fn params(types: &[Type], random: &mut Random) -> Vec<Type> {
    let few = [random.pick(types), random.pick(types), Type::V128];
    let mixed = random.below(3) > 0;
    let count = random.below(PARAMS_MAX + 1);
    (0..count).map(|_| if mixed { random.pick(types) } else { random.pick(&few) }).collect()
}

fn source(ty: Type, own: &[Type], random: &mut Random) -> Source {
    let alike: Vec<_> = (0..own.len()).filter(|param| own[*param] == ty).collect();
    match (ty, random.below(8)) {
        (_, 0..5) if !alike.is_empty() => Source::Param(random.pick(&alike)),
        // A signalling NaN, whose bits nobody may change.
        (Type::F32, 5) => Source::Bits(0x7fa0_0001),
        (Type::F64, 5) => Source::Bits(0xfff4_0000_0000_0001),
        _ => Source::Made(random.next()),
    }
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const TURN: u32 = 29;

fn mixed(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(TURN)
}

/// What the function `$answer{number}` answers.
fn answer(number: u64) -> u64 {
    1000 + number
}

/// Functions that references are made to; another number means null.
const ANSWERS: u64 = 3;

impl Value {
    /// What a value adds to the sum.
    fn word(self) -> u64 {
        match self {
            Self::I32(bits) | Self::F32(bits) => bits.into(),
            Self::I64(bits) | Self::F64(bits) => bits,
            Self::V128(low, high) => low ^ high.rotate_left(1),
            Self::Func(answer) => answer.unwrap_or(1),
            Self::Extern(number) => {
                if number.is_some() {
                    5
                } else {
                    3
                }
            }
            Self::Exn(payload) => payload.map_or(7, |payload| payload ^ 0xe),
        }
    }

    /// What the embedder sees of it.
    fn seen(self) -> Seen {
        match self {
            Self::I32(bits) => Seen::I32(bits),
            Self::I64(bits) => Seen::I64(bits),
            Self::F32(bits) => Seen::f32(f32::from_bits(bits)),
            Self::F64(bits) => Seen::f64(f64::from_bits(bits)),
            Self::V128(low, high) => Seen::V128(u128::from(low) | u128::from(high) << 64),
            Self::Func(answer) => Seen::FuncRef(answer.is_some()),
            Self::Extern(number) => Seen::ExternRef(number),
            Self::Exn(payload) => Seen::ExnRef(payload.is_some()),
        }
    }

    /// Zero or null.
    fn none(ty: Type) -> Self {
        match ty {
            Type::I32 => Self::I32(0),
            Type::I64 => Self::I64(0),
            Type::F32 => Self::F32(0),
            Type::F64 => Self::F64(0),
            Type::V128 => Self::V128(0, 0),
            Type::Func | Type::Typed => Self::Func(None),
            Type::Extern => Self::Extern(None),
            Type::Exn => Self::Exn(None),
        }
    }
}

/// What the ring's globals hold.
struct World<'a> {
    shape: &'a Shape,
    left: u32,
    inner: u32,
    sum: u64,
    host: Option<u32>,
}

impl World<'_> {
    /// What an entry answers, see [`Shape::entry`].
    fn enter(&mut self, first: usize, args: &[Source], in_tail_position: bool) -> Ended {
        let wanted = &self.shape.functions[first].params;
        let args = self.values(args, wanted, &[]);
        let answered = self.call(first, args);
        if in_tail_position {
            return match answered {
                Ok(results) => Ended::Returned(results.into_iter().map(Value::seen).collect()),
                Err(_) => Ended::Trapped(TrapKind::UncaughtException.message()),
            };
        }
        let (results, last) = match answered {
            Ok(results) => (results, self.sum),
            Err(thrown) => (self.shape.results.iter().map(|ty| Value::none(*ty)).collect(), thrown),
        };
        let seen = results.into_iter().map(Value::seen).chain([Seen::I64(last)]);
        Ended::Returned(seen.collect())
    }

    /// Results, or what was thrown.
    fn call(&mut self, mut number: usize, mut params: Vec<Value>) -> Result<Vec<Value>, u64> {
        let shape = self.shape;
        loop {
            let function = &shape.functions[number];
            let next = (number + 1) % FUNCTIONS;
            let wanted = &shape.functions[next].params;
            for param in &params {
                self.sum = mixed(self.sum, param.word());
            }
            if let Some((_, rounds, args)) = &function.inner
                && self.inner > 0
            {
                self.inner -= 1;
                let left = std::mem::replace(&mut self.left, *rounds);
                let args = self.values(args, wanted, &params);
                match self.call(next, args) {
                    Ok(results) => {
                        for result in results {
                            self.sum = mixed(self.sum, result.word());
                        }
                    }
                    Err(thrown) if function.catches => self.sum = mixed(thrown, 0xca),
                    Err(thrown) => return Err(thrown),
                }
                self.left = left;
            }
            if self.left == 0 {
                if shape.exceptions && self.sum.cast_signed() < 0 {
                    return Err(self.sum);
                }
                return Ok(self.values(&function.results, &shape.results, &params));
            }
            self.left -= 1;
            params = self.values(&function.args, wanted, &params);
            number = next;
        }
    }

    fn values(&self, sources: &[Source], wanted: &[Type], params: &[Value]) -> Vec<Value> {
        let pairs = sources.iter().zip(wanted);
        pairs.map(|(source, ty)| self.value(*source, *ty, params)).collect()
    }

    fn value(&self, source: Source, ty: Type, params: &[Value]) -> Value {
        let number = match source {
            Source::Param(param) => return params[param],
            Source::Bits(bits) if ty == Type::F32 => return Value::F32(bits as u32),
            Source::Bits(bits) => return Value::F64(bits),
            Source::Made(number) => number,
        };
        let word = self.sum ^ number;
        match ty {
            Type::I32 => Value::I32(word as u32),
            Type::I64 => Value::I64(word),
            Type::F32 => Value::F32(((word as u32).cast_signed() as f32).to_bits()),
            Type::F64 => Value::F64((word.cast_signed() as f64).to_bits()),
            Type::V128 => Value::V128(word, word.wrapping_mul(3)),
            Type::Func | Type::Typed => {
                let number = number % (ANSWERS + 1);
                Value::Func((number < ANSWERS).then(|| answer(number)))
            }
            Type::Extern => Value::Extern(if number % 2 == 0 { self.host } else { None }),
            Type::Exn => Value::Exn((number % 4 > 0).then_some(word)),
        }
    }
}

impl Type {
    fn text(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::Func => "funcref",
            Self::Extern => "externref",
            Self::Typed => "(ref null $answer)",
            Self::Exn => "exnref",
        }
    }

    /// What the value of an expression adds to the sum.
    fn word(self, value: &str) -> String {
        match self {
            Self::I32 => format!("(i64.extend_i32_u {value})"),
            Self::I64 => value.to_owned(),
            Self::F32 => format!("(i64.extend_i32_u (i32.reinterpret_f32 {value}))"),
            Self::F64 => format!("(i64.reinterpret_f64 {value})"),
            Self::V128 => format!("(call $vector {value})"),
            Self::Func => format!("(call $function {value})"),
            Self::Extern => format!("(select (i64.const 3) (i64.const 5) (ref.is_null {value}))"),
            Self::Typed => format!("(call $typed {value})"),
            Self::Exn => format!("(call $exception {value})"),
        }
    }
}

/// An expression; a function's parameters come first among its locals, and `$sum` is one.
fn text_of(source: Source, ty: Type) -> String {
    let number = match source {
        Source::Param(param) => return format!("(local.get {param})"),
        Source::Bits(bits) if ty == Type::F32 => {
            return format!("(f32.reinterpret_i32 (i32.const {bits}))");
        }
        Source::Bits(bits) => return format!("(f64.reinterpret_i64 (i64.const {bits}))"),
        Source::Made(number) => number,
    };
    let word = format!("(i64.xor (local.get $sum) (i64.const {number}))");
    match ty {
        Type::I32 => format!("(i32.wrap_i64 {word})"),
        Type::I64 => word,
        Type::F32 => format!("(f32.convert_i32_s (i32.wrap_i64 {word}))"),
        Type::F64 => format!("(f64.convert_i64_s {word})"),
        Type::V128 => format!("(call $vector_of {word})"),
        Type::Func | Type::Typed if number % (ANSWERS + 1) < ANSWERS => {
            format!("(ref.func $answer{})", number % (ANSWERS + 1))
        }
        Type::Func => "(ref.null func)".to_owned(),
        Type::Typed => "(ref.null $answer)".to_owned(),
        Type::Extern if number % 2 == 0 => "(global.get $host)".to_owned(),
        Type::Extern => "(ref.null extern)".to_owned(),
        Type::Exn if number % 4 > 0 => format!("(call $exception_of {word})"),
        Type::Exn => "(ref.null exn)".to_owned(),
    }
}

fn list(sources: &[Source], types: &[Type]) -> String {
    let all = sources.iter().zip(types).map(|(source, ty)| text_of(*source, *ty));
    all.collect::<Vec<_>>().join(" ")
}

fn types(types: &[Type]) -> String {
    types.iter().map(|ty| ty.text()).collect::<Vec<_>>().join(" ")
}

/// Puts a value into a function's sum.
fn mix(word: &str) -> String {
    format!(
        "(local.set $sum (i64.rotl (i64.mul (i64.xor (local.get $sum) {word}) \
         (i64.const {FACTOR})) (i64.const {TURN})))\n"
    )
}

/// What every module has for itself.
const HELPERS: &str = r#"
(table $asked 1 funcref)
(func $vector (param v128) (result i64)
  (i64.xor (i64x2.extract_lane 0 (local.get 0))
           (i64.rotl (i64x2.extract_lane 1 (local.get 0)) (i64.const 1))))
(func $vector_of (param i64) (result v128)
  (i64x2.replace_lane 1 (i64x2.splat (local.get 0)) (i64.mul (local.get 0) (i64.const 3))))
(func $function (param funcref) (result i64)
  (if (ref.is_null (local.get 0)) (then (return (i64.const 1))))
  (table.set $asked (i32.const 0) (local.get 0))
  (call_indirect $asked (type $answer) (i32.const 0)))
"#;

const HELPERS_FOR_REFERENCES: &str = r#"
(func $typed (param (ref null $answer)) (result i64)
  (if (ref.is_null (local.get 0)) (then (return (i64.const 1))))
  (call_ref $answer (local.get 0)))
"#;

const HELPERS_FOR_EXCEPTIONS: &str = r#"
(func $exception (param exnref) (result i64)
  (if (ref.is_null (local.get 0)) (then (return (i64.const 7))))
  (i64.xor (i64.const 0xe)
    (block $caught (result i64)
      (try_table (catch $e $caught) (throw_ref (local.get 0)))
      (unreachable))))
(func $exception_of (param i64) (result exnref) (local $made exnref)
  (block $caught (result i64 exnref)
    (try_table (catch_ref $e $caught) (throw $e (local.get 0)))
    (unreachable))
  (local.set $made)
  (drop)
  (local.get $made))
"#;

/// Globals that both modules share.
const GLOBALS: [(&str, &str, &str); 4] = [
    ("left", "(mut i32)", "(i32.const 0)"),
    ("inner", "(mut i32)", "(i32.const 0)"),
    ("sum", "(mut i64)", "(i64.const 0)"),
    ("host", "(mut externref)", "(ref.null extern)"),
];

impl Shape {
    /// How the entries begin a ring at a function, and with what.
    fn entry(&self, first: usize, random: &mut Random) -> (Way, Vec<Source>) {
        let ways = [Way::Direct, Way::Table, Way::Reference];
        let way = random.pick(if self.references { &ways } else { &ways[..2] });
        let params = self.functions[first].params.iter();
        (way, params.map(|ty| source(*ty, &[], random)).collect())
    }

    fn text(&self, module: usize, entries: &[(Way, Vec<Source>)]) -> String {
        let mut text = "(module\n(type $answer (func (result i64)))\n".to_owned();
        let results = types(&self.results);
        for (number, function) in self.functions.iter().enumerate() {
            let params = types(&function.params);
            let _ = writeln!(text, "(type $t{number} (func (param {params}) (result {results})))");
        }
        let is_first = module == 0;
        let way = |name: &str| match is_first {
            true => format!("(export \"{name}\")"),
            false => format!("(import \"first\" \"{name}\")"),
        };
        let _ = writeln!(text, "(table $ring {} {FUNCTIONS} funcref)", way("ring"));
        for (name, ty, value) in GLOBALS {
            let value = if is_first { value } else { "" };
            let _ = writeln!(text, "(global ${name} {} {ty} {value})", way(name));
        }
        if self.exceptions {
            let _ = writeln!(text, "(tag $e {} (param i64))", way("e"));
        }
        let of = |wanted: usize| {
            let functions = self.functions.iter().enumerate();
            functions.filter(move |(_, function)| function.module == wanted)
        };
        if !is_first {
            for (number, _) in of(0) {
                let import = format!("(import \"first\" \"f{number}\")");
                let _ = writeln!(text, "(func $f{number} {import} (type $t{number}))");
            }
        }
        text += HELPERS;
        if self.references {
            text += HELPERS_FOR_REFERENCES;
        }
        if self.exceptions {
            text += HELPERS_FOR_EXCEPTIONS;
        }
        for number in 0..ANSWERS {
            let answer = answer(number);
            let _ = writeln!(
                text,
                "(func $answer{number} (type $answer) (i64.const {answer}))\n\
                 (elem declare func $answer{number})"
            );
        }
        for (number, function) in of(module) {
            let _ = writeln!(text, "(elem (table $ring) (i32.const {number}) func $f{number})");
            text += &self.function(number, function);
        }
        if !is_first {
            let all: Vec<_> = of(0).map(|(number, _)| format!("$f{number}")).collect();
            let _ = writeln!(text, "(elem declare func {})", all.join(" "));
            for (first, (way, args)) in entries.iter().enumerate() {
                // The second module reaches everything.
                text += &self.entries(first, *way, args);
            }
        }
        text + ")\n"
    }

    fn function(&self, number: usize, function: &Function) -> String {
        let next = (number + 1) % FUNCTIONS;
        let wanted = &self.functions[next].params;
        let mut text = format!("(func $f{number} (export \"f{number}\") (type $t{number})\n");
        text += &self.locals();
        text += "(local $left i32)\n(local.set $sum (global.get $sum))\n";
        for (param, ty) in function.params.iter().enumerate() {
            text += &mix(&ty.word(&format!("(local.get {param})")));
        }
        if let Some((way, rounds, args)) = &function.inner {
            let call = call(*way, false, next, &list(args, wanted));
            let mut inner = call + &self.take_results() + "(local.set $sum (global.get $sum))\n";
            for (result, ty) in self.results.iter().enumerate() {
                inner += &mix(&ty.word(&format!("(local.get $r{result})")));
            }
            if function.catches {
                inner = catching(&inner, &mix("(i64.const 0xca)"));
            }
            let _ = writeln!(
                text,
                "(if (global.get $inner) (then
                  (global.set $inner (i32.sub (global.get $inner) (i32.const 1)))
                  (local.set $left (global.get $left))
                  (global.set $left (i32.const {rounds}))
                  (global.set $sum (local.get $sum))
                  {inner}
                  (global.set $left (local.get $left))))"
            );
        }
        let results = list(&function.results, &self.results);
        let throw = match self.exceptions {
            true => {
                "(if (i64.lt_s (local.get $sum) (i64.const 0)) (then (throw $e (local.get $sum))))"
            }
            false => "",
        };
        let mut leave = call(function.way, true, next, &list(&function.args, wanted));
        if function.in_try {
            leave =
                format!("(block $caught (try_table (catch_all $caught) {leave})) (unreachable)");
        }
        let _ = writeln!(
            text,
            "(global.set $sum (local.get $sum))
             (if (i32.eqz (global.get $left)) (then {throw} (return {results})))
             (global.set $left (i32.sub (global.get $left) (i32.const 1)))
             {leave})"
        );
        text
    }

    /// Two functions that begin a ring: by an ordinary call, then with the sum or what was thrown
    /// as one more result, and by one in tail position.
    fn entries(&self, first: usize, way: Way, args: &[Source]) -> String {
        let args = list(args, &self.functions[first].params);
        let params =
            "(param $left i32) (param $inner i32) (param $seed i64) (param $host externref)";
        let results = types(&self.results);
        let begin = "(global.set $left (local.get $left))
            (global.set $inner (local.get $inner))
            (global.set $sum (local.get $seed))
            (local.set $sum (local.get $seed))
            (global.set $host (local.get $host))";
        let mut body = call(way, false, first, &args)
            + &self.take_results()
            + "(local.set $sum (global.get $sum))\n";
        if self.exceptions {
            body = catching(&body, "");
        }
        let taken: String =
            (0..self.results.len()).map(|nth| format!("(local.get $r{nth})")).collect();
        let locals = self.locals();
        let leave = call(way, true, first, &args);
        format!(
            "(func (export \"call{first}\") {params} (result {results} i64) {locals}
              {begin} {body} {taken} (local.get $sum))
             (func (export \"tail{first}\") {params} (result {results}) (local $sum i64)
              {begin} {leave})\n"
        )
    }

    fn locals(&self) -> String {
        let results = self.results.iter().enumerate();
        let results = results.map(|(nth, ty)| format!("(local $r{nth} {})", ty.text()));
        results.collect::<String>() + "(local $sum i64)\n"
    }

    fn take_results(&self) -> String {
        (0..self.results.len()).rev().map(|nth| format!("(local.set $r{nth})")).collect()
    }
}

fn call(way: Way, in_tail_position: bool, number: usize, args: &str) -> String {
    let call = if in_tail_position { "return_call" } else { "call" };
    match way {
        Way::Direct => format!("({call} $f{number} {args})"),
        Way::Table => {
            format!("({call}_indirect $ring (type $t{number}) {args} (i32.const {number}))")
        }
        Way::Reference => format!("({call}_ref $t{number} {args} (ref.func $f{number}))"),
    }
}

/// Goes on with what was thrown as the sum, and `then`.
fn catching(body: &str, then: &str) -> String {
    format!(
        "(block $done
          (local.set $sum
            (block $caught (result i64)
              (try_table (catch $e $caught) {body})
              (br $done)))
          {then})"
    )
}
