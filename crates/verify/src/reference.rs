//! References: which values are some, of which type, and not null.

use std::mem::offset_of;

use awsm_abi::context::FuncRef;
use awsm_abi::desc::val_type;

use crate::contract;
use crate::flow::BlockId;
use crate::function::Analysis;
use crate::function::facts::{Fact, Relation};
use crate::state::About;
use crate::value::{Atom, Kind, Range, RefType, Value};

/// How many joins are looked through.
const DEPTH: u32 = 64;

/// How many comparisons and joins lead from one number of a type to another.
const EQUALS: u32 = 6;

/// How many joins are looked through for one of two values that is not null.
const ONES: u32 = 6;

/// Facts behind a join that are looked at, at most.
const BROUGHT: usize = 32;

/// What looking at all cases costs, of the steps that there are.
const STEPS: usize = 16;

/// A value at the end of a block, and what is known besides the block's facts.
#[derive(Clone, Debug)]
struct Case {
    value: Value,
    block: BlockId,
    known: Vec<Fact>,
    /// Another value that is looked at beside it, if it is known there.
    beside: Option<Value>,
}

impl Case {
    fn new(value: Value, block: BlockId) -> Self {
        Self { value, block, known: Vec::new(), beside: None }
    }
}

/// Is the same being shown already, from nothing that is not known here as well?
fn is_open(case: &Case, open: &[Case]) -> bool {
    let same = |other: &&Case| other.value == case.value;
    open.iter().filter(same).any(|other| other.known.iter().all(|fact| case.known.contains(fact)))
}

impl Analysis<'_> {
    /// May a value stand where a reference of this type is wanted?
    pub(crate) fn reference_fits(&mut self, value: Value, code: u32, block: BlockId) -> bool {
        let nullable = code & val_type::NON_NULL == 0;
        if value == Value::number(0) {
            return nullable;
        }
        let kind = self.reference_kind(value);
        let right = match (contract::kind_of_type(code), kind) {
            (Kind::Ref(wanted), Kind::Ref(found)) => match wanted.ty {
                None => true,
                Some(ty) => found.ty == Some(ty) || self.has_type(value, ty, block),
            },
            (Kind::Extern { .. }, Kind::Extern { .. })
            | (Kind::Exception { .. }, Kind::Exception { .. }) => true,
            _ => false,
        };
        right && (nullable || self.is_not_null(value, block))
    }

    /// Is a value surely not null?
    pub(crate) fn is_not_null(&mut self, value: Value, block: BlockId) -> bool {
        self.not_null(Case::new(value, block), DEPTH, &mut Vec::new())
    }

    fn not_null(&mut self, case: Case, depth: u32, open: &mut Vec<Case>) -> bool {
        let value = case.value;
        match self.reference_kind(value) {
            Kind::Ref(RefType { non_null: true, .. })
            | Kind::Exception { non_null: true }
            | Kind::Extern { non_null: true } => return true,
            _ if value.constant().is_some_and(|number| number != 0) => return true,
            _ => {}
        }
        let negative = self.arena.times(value, -1);
        let said = |fact: Fact| {
            fact.relation == Relation::NotZero
                && (fact.lin == value.lin && fact.k == value.k.into()
                    || fact.lin == negative.lin && fact.k == negative.k.into())
        };
        let known = case.known.iter().copied();
        if known.chain(self.facts.chain(case.block, None)).any(said) || is_open(&case, open) {
            return true;
        }
        if self.is_promised(&case) {
            return true;
        }
        if depth == 0 {
            return false;
        }
        // Around a loop it may be assumed for the round before.
        open.push(case.clone());
        let shown =
            self.in_all_cases(&case, &mut |this, case| this.not_null(case, depth - 1, open));
        if !shown {
            open.retain(|other| other.value != value);
        }
        shown
    }

    /// Was a value promised not to be null if no exception is under way, and was there none?
    fn is_promised(&mut self, case: &Case) -> bool {
        let Some(atom) = self.arena.single(case.value) else { return false };
        let Some(pending) = self.promised.get(&atom).copied() else { return false };
        let negative = self.arena.times(pending, -1);
        let known = case.known.iter().copied().chain(self.facts.chain(case.block, None));
        known.into_iter().any(|fact| {
            fact.relation == Relation::Zero
                && fact.k == 0
                && (fact.lin == pending.lin || fact.lin == negative.lin)
        })
    }

    /// May a value be returned as a result of this type, if `pending` is the exception under way?
    /// With one a result that is never null may be null all the same: callers look at the exception
    /// first.
    pub(crate) fn result_fits(
        &mut self,
        value: Value,
        code: u32,
        pending: Option<Value>,
        block: BlockId,
    ) -> bool {
        let nullable = code & !val_type::NON_NULL;
        if pending.is_none() || nullable == code {
            return self.reference_fits(value, code, block);
        }
        let case = Case { beside: pending, ..Case::new(value, block) };
        self.reference_fits(value, nullable, block) && self.is_one_not_null(&case, ONES)
    }

    /// Is a value not null, or what is beside it?
    fn is_one_not_null(&mut self, case: &Case, depth: u32) -> bool {
        let Some(beside) = case.beside else { return false };
        let other = Case { value: beside, beside: Some(case.value), ..case.clone() };
        // The one is promised not to be null unless the other is not.
        let promised = |value, pending| {
            let atom = self.arena.single(value);
            atom.and_then(|atom| self.promised.get(&atom)) == Some(&pending)
        };
        if promised(case.value, beside) || promised(beside, case.value) {
            return true;
        }
        for case in [case, &other] {
            if self.not_null(case.clone(), DEPTH, &mut Vec::new()) {
                return true;
            }
        }
        // What comes from the deepest join first: the other value is known before it as well.
        let deepest = match self.arena.home(case.value) >= self.arena.home(beside) {
            true => case,
            false => &other,
        };
        depth > 0
            && self.in_all_cases(deepest, &mut |this, case| this.is_one_not_null(&case, depth - 1))
    }

    /// Does a reference name a function of this type?
    pub(crate) fn has_type(&mut self, value: Value, ty: u32, block: BlockId) -> bool {
        self.of_type(Case::new(value, block), ty, DEPTH, &mut Vec::new())
    }

    fn of_type(&mut self, case: Case, ty: u32, depth: u32, open: &mut Vec<Case>) -> bool {
        let value = case.value;
        if value == Value::number(0) {
            return true;
        }
        if let Kind::Ref(RefType { ty: Some(found), .. }) = self.reference_kind(value)
            && found == ty
        {
            return true;
        }
        let number = Case { value: self.type_number(value), ..case.clone() };
        if self.equals_type(&number, ty, EQUALS) || is_open(&case, open) {
            return true;
        }
        if depth == 0 {
            return false;
        }
        open.push(case.clone());
        let shown =
            self.in_all_cases(&case, &mut |this, case| this.of_type(case, ty, depth - 1, open));
        if !shown {
            open.retain(|other| other.value != value);
        }
        shown
    }

    /// The number of the type of the function that a reference names.
    fn type_number(&mut self, reference: Value) -> Value {
        let at = offset_of!(FuncRef, type_id) as i32;
        let atom = Atom::Deref { base: reference, at, bytes: 4, time: Value::number(0) };
        let home = self.arena.home(reference);
        self.arena.make(atom, Kind::RefType, Range::bits(32), home)
    }

    /// Is a number that of a type, by comparisons?
    fn equals_type(&mut self, case: &Case, ty: u32, depth: u32) -> bool {
        let Some(wanted) = self.arena.single(case.value) else { return false };
        if self.arena.kind(wanted) == Kind::TypeId(ty) {
            return true;
        }
        let known = case.known.iter().copied();
        let facts: Vec<_> = known.chain(self.facts.chain(case.block, None)).collect();
        for fact in facts {
            if fact.relation != Relation::Zero || fact.k != 0 {
                continue;
            }
            let terms = self.arena.terms(Value { lin: fact.lin, k: 0 });
            let other = match *terms {
                [(a, p), (b, q)] if p == -q && (p == 1 || p == -1) => match wanted {
                    _ if a == wanted => b,
                    _ if b == wanted => a,
                    _ => continue,
                },
                _ => continue,
            };
            if self.arena.kind(other) == Kind::TypeId(ty) {
                return true;
            }
            let other = Case { value: self.arena.value_of(other), ..case.clone() };
            if depth > 0 && self.equals_type(&other, ty, depth - 1) {
                return true;
            }
        }
        if depth == 0 {
            return false;
        }
        // The number of the type of what comes from several sides is several numbers.
        if let Atom::Deref { base, .. } = self.arena.atom(wanted).atom {
            let base = Case { value: base, ..case.clone() };
            return self.in_all_cases(&base, &mut |this, base| {
                let number = Case { value: this.type_number(base.value), ..base };
                this.equals_type(&number, ty, depth - 1)
            });
        }
        self.in_all_cases(case, &mut |this, number| this.equals_type(&number, ty, depth - 1))
    }

    /// Holds something of a value in all cases: for what comes to a join from each side, and for
    /// both sides of a choice? What is known comes along, as far as it is about what comes from
    /// there.
    fn in_all_cases(
        &mut self,
        case: &Case,
        holds: &mut dyn FnMut(&mut Self, Case) -> bool,
    ) -> bool {
        let Some(atom) = self.arena.single(case.value) else { return false };
        if !self.prover.has_steps(STEPS) {
            return false;
        }
        match self.arena.atom(atom).atom {
            Atom::Join { block: join, .. } | Atom::Phi { block: join, .. } => {
                let ways = self.flow.blocks[join as usize].from.clone();
                ways.into_iter().enumerate().all(|(number, (from, edge))| {
                    let way = (join, number, from);
                    let Some(mut known) = self.brought(case, way) else { return true };
                    let told = self.edge_facts(from, edge);
                    if self.is_impossible(from, &told) {
                        return true;
                    }
                    known.extend(told);
                    let Some(value) = self.congruent_on_way(case.value, way) else { return false };
                    let beside = case.beside.and_then(|beside| self.congruent_on_way(beside, way));
                    holds(self, Case { value, block: from, known, beside })
                })
            }
            Atom::Select(number) => {
                let choice = *self.arena.choice(number);
                let (mut then, mut otherwise) = (case.known.clone(), case.known.clone());
                if choice.on.about != About::Nothing {
                    self.learn(choice.on, choice.condition, &mut then);
                    self.learn(choice.on, choice.condition.opposite(), &mut otherwise);
                }
                let (block, beside) = (case.block, case.beside);
                let side = |value, known| Case { value, block, known, beside };
                holds(self, side(choice.then, then))
                    && holds(self, side(choice.otherwise, otherwise))
            }
            _ => false,
        }
    }

    /// What is known behind a join of what comes into it on one way, or `None` if that cannot be.
    fn brought(&mut self, case: &Case, way: (BlockId, usize, BlockId)) -> Option<Vec<Fact>> {
        let behind = self.facts.chain(case.block, Some(way.0)).take(BROUGHT);
        let facts: Vec<Fact> = case.known.iter().copied().chain(behind).collect();
        let mut brought = Vec::new();
        for fact in facts {
            let Ok(k) = i64::try_from(fact.k) else { continue };
            if !matches!(fact.relation, Relation::Zero | Relation::NotZero) {
                continue;
            }
            let sum = Value { lin: fact.lin, k };
            let Some(there) = self.congruent_on_way(sum, way) else { continue };
            let zero = fact.relation == Relation::Zero;
            match there.constant() {
                Some(number) if (number == 0) != zero => return None,
                Some(_) => {}
                None => brought.push(Fact::new(there.lin, there.k.into(), fact.relation)),
            }
        }
        Some(brought)
    }

    /// Is what a reference names known to be there, and of which type?
    pub(crate) fn check_reference(&mut self, at: u32, base: Value, block: BlockId) -> Option<u32> {
        if !matches!(self.reference_kind(base), Kind::Ref(_)) {
            self.problem(at, "a call through what is no reference");
            return None;
        }
        if !self.is_not_null(base, block) {
            self.problem(at, "a call through a reference that may be null");
            return None;
        }
        let assumed = self.assumed_type(at, base);
        match self.known_type(at, base, block) {
            Some(ty) => {
                if Some(ty) != assumed {
                    self.call_types.insert(at, ty);
                    self.again = true;
                }
                Some(ty)
            }
            None => {
                self.problem(at, "a call through a reference whose type is not shown");
                None
            }
        }
    }

    /// The type of the function that a reference surely names if it is not null.
    pub(crate) fn known_type(&mut self, at: u32, base: Value, block: BlockId) -> Option<u32> {
        let assumed = self.assumed_type(at, base);
        if let Some(ty) = assumed
            && self.has_type(base, ty, block)
        {
            return Some(ty);
        }
        // Another type that something was compared with.
        let mut types = Vec::new();
        for atom in 0..self.arena.len() as u32 {
            if let Kind::TypeId(ty) = self.arena.kind(atom) {
                types.push(ty);
            }
        }
        types.into_iter().find(|ty| Some(*ty) != assumed && self.has_type(base, *ty, block))
    }

    /// Has the context that a reference names an argument cell for an access to `bytes` bytes at
    /// `at` from it? It has those that the reference's type says if there is code that takes them.
    pub(crate) fn has_argument_cell(
        &mut self,
        op: u32,
        context: Value,
        at: i64,
        bytes: i64,
        block: BlockId,
    ) -> bool {
        let Some(atom) = self.arena.single(context) else { return false };
        let Atom::Deref { base, .. } = self.arena.atom(atom).atom else { return false };
        if !self.is_context_of(context, base)
            || !self.is_not_null(base, block)
            || !self.has_tail_code(base, block)
        {
            return false;
        }
        let descriptor = self.module.descriptor;
        self.known_type(op, base, block).is_some_and(|ty| {
            let cells = descriptor.types[ty as usize].cells(descriptor.arch);
            contract::is_in_argument_cell(at, bytes, cells)
        })
    }

    /// Does a reference surely have code for calls in tail position?
    pub(crate) fn has_tail_code(&mut self, base: Value, block: BlockId) -> bool {
        let at = offset_of!(FuncRef, tail) as i32;
        let atom = Atom::Deref { base, at, bytes: 8, time: Value::number(0) };
        let home = self.arena.home(base);
        let kind = Kind::Code { tail: true };
        let code = self.arena.make(atom, kind, Range::ANY, home);
        self.is_not_null(code, block)
    }

    /// Is a value the context of the function that a reference names?
    pub(crate) fn is_context_of(&self, value: Value, reference: Value) -> bool {
        let Some(atom) = self.arena.single(value) else { return false };
        let at = offset_of!(FuncRef, ctx) as i32;
        match self.arena.atom(atom).atom {
            Atom::Deref { base, at: offset, bytes: 8, .. } => base == reference && offset == at,
            _ => false,
        }
    }

    /// The tag that a value is the place of.
    pub(crate) fn tag_at(&self, value: Value) -> Option<u32> {
        match self.arena.kind_of(value) {
            Kind::Tag(tag) => Some(tag),
            _ => match self.arena.terms(value) {
                [(atom, 1)] if self.arena.kind(*atom) == Kind::Context => {
                    self.module.descriptor.tag_at(value.k)
                }
                _ => None,
            },
        }
    }

    /// The tags of one of which a value is the place; none if it may be something else.
    pub(crate) fn tags_at(&self, value: Value) -> Vec<u32> {
        if let Some(tag) = self.tag_at(value) {
            return vec![tag];
        }
        // The context, and a multiple of constants from several sides.
        let [a, b] = *self.arena.terms(value) else { return Vec::new() };
        let (context, (join, factor)) = match self.arena.kind(a.0) {
            Kind::Context => (a, b),
            _ => (b, a),
        };
        if self.arena.kind(context.0) != Kind::Context || context.1 != 1 {
            return Vec::new();
        }
        let constants: Option<Vec<i64>> = match self.arena.atom(join).atom {
            Atom::Join { list, .. } => {
                self.arena.list(list).iter().map(|value| value.constant()).collect()
            }
            Atom::Select(number) => {
                let choice = self.arena.choice(number);
                choice.then.constant().zip(choice.otherwise.constant()).map(|(a, b)| vec![a, b])
            }
            _ => None,
        };
        let tag = |constant: i64| {
            let distance = constant.checked_mul(factor)?.checked_add(value.k)?;
            self.module.descriptor.tag_at(distance)
        };
        let tags: Option<Vec<u32>> = constants.unwrap_or_default().into_iter().map(tag).collect();
        tags.unwrap_or_default()
    }

    /// The tags of one of which an exception is: what it was made with, or was found to be equal
    /// to, on each way. None if it may be of any other.
    pub(crate) fn exception_tags(&mut self, exception: Value, block: BlockId) -> Vec<u32> {
        let mut tags = Vec::new();
        let all = self.tags_of_case(&Case::new(exception, block), DEPTH, &mut tags);
        if all { tags } else { Vec::new() }
    }

    fn tags_of_case(&mut self, case: &Case, depth: u32, tags: &mut Vec<u32>) -> bool {
        let known = self.known_tags(case.value, case.block, &case.known);
        if !known.is_empty() {
            tags.extend(known.into_iter().filter(|tag| !tags.contains(tag)).collect::<Vec<_>>());
            return true;
        }
        depth > 0
            && (self
                .in_both_cases(case, &mut |this, case| this.tags_of_case(&case, depth - 1, tags))
                || self.in_all_cases(case, &mut |this, case| {
                    this.tags_of_case(&case, depth - 1, tags)
                }))
    }

    /// Holds something of a value in both cases that comparisons leave: of two numbers that have no
    /// bit in common, as truth values one is zero or the other is.
    fn in_both_cases(
        &mut self,
        case: &Case,
        holds: &mut dyn FnMut(&mut Self, Case) -> bool,
    ) -> bool {
        let known = case.known.iter().copied();
        let facts = known.chain(self.facts.chain(case.block, None).take(BROUGHT));
        let both = |fact: Fact| match self.arena.terms(Value { lin: fact.lin, k: 0 }) {
            [(atom, 1)] if fact.relation == Relation::Zero && fact.k == 0 => {
                match self.arena.atom(*atom).atom {
                    Atom::And(a, b) => Some((a, b)),
                    _ => None,
                }
            }
            _ => None,
        };
        let split: Vec<_> = facts.filter_map(both).collect();
        for (a, b) in split {
            let bits = [a, b].map(|value| self.arena.range(value).within(Range::bits(1)));
            let is_zero = |value: Value| Fact::new(value.lin, value.k.into(), Relation::Zero);
            // Not once more within one of the cases.
            let again = [a, b].into_iter().any(|value| case.known.contains(&is_zero(value)));
            if bits != [true; 2] || again || !self.prover.has_steps(STEPS) {
                continue;
            }
            let mut either = |value: Value| {
                let mut known = case.known.clone();
                self.learn_zero(value, true, &mut known);
                holds(self, Case { known, ..case.clone() })
            };
            if either(a) && either(b) {
                return true;
            }
        }
        false
    }

    /// Tags that comparisons name, or that an exception was made with; none if it may be of any
    /// other.
    fn known_tags(&mut self, exception: Value, block: BlockId, more: &[Fact]) -> Vec<u32> {
        let Some(atom) = self.arena.single(exception) else { return Vec::new() };
        let at = contract::EXCEPTION_TAG as i32;
        let tag = Atom::Deref { base: exception, at, bytes: 8, time: Value::number(0) };
        let home = self.arena.home(exception);
        let tag = self.arena.make(tag, Kind::Number, Range::ANY, home);
        let facts: Vec<_> = more.iter().copied().chain(self.facts.chain(block, None)).collect();
        for fact in facts {
            if fact.relation != Relation::Zero {
                continue;
            }
            let Ok(k) = i64::try_from(fact.k) else { continue };
            let sum = Value { lin: fact.lin, k };
            for sign in [1, -1] {
                // `tag - place = 0`
                let place = self.arena.add_times(tag, sum, -sign);
                if let Some(tag) = self.tag_at(place) {
                    return vec![tag];
                }
            }
        }
        // What it was made with says less: where it is found to be equal to another, nothing gets.
        match self.arena.atom(atom).atom {
            Atom::Opaque { at, .. } => self.new_exceptions.get(&at).cloned().unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}
