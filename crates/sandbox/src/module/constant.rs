//! Constant expressions: first values of globals and tables, places of segments.

use awsm_abi::desc::{ConstOp, const_op};

/// The value of an expression that validation has accepted; `constant` gives those of the operators
/// that look something up.
pub(crate) fn evaluate(ops: &[ConstOp], constant: impl Fn(u32, u32) -> [u64; 2]) -> [u64; 2] {
    let mut stack = Vec::<[u64; 2]>::with_capacity(4);
    for op in ops {
        let value = match op.op {
            const_op::CONST => op.value,
            const_op::GLOBAL_GET | const_op::REF_NULL | const_op::REF_FUNC => {
                constant(op.op, op.index)
            }
            operator => {
                let right = stack.pop().unwrap_or_default()[0];
                let left = stack.pop().unwrap_or_default()[0];
                [arithmetic(operator, left, right), 0]
            }
        };
        stack.push(value);
    }
    stack.pop().unwrap_or_default()
}

/// The value of an expression that looks nothing up.
pub(crate) fn evaluate_alone(ops: &[ConstOp]) -> Option<u64> {
    let looks_up = |op: &ConstOp| {
        [const_op::GLOBAL_GET, const_op::REF_FUNC, const_op::REF_NULL].contains(&op.op)
    };
    (!ops.iter().any(looks_up)).then(|| evaluate(ops, |_, _| [0, 0])[0])
}

fn arithmetic(operator: u32, left: u64, right: u64) -> u64 {
    let narrow = |value: u64| u64::from(value as u32);
    match operator {
        const_op::I32_ADD => narrow(left.wrapping_add(right)),
        const_op::I32_SUB => narrow(left.wrapping_sub(right)),
        const_op::I32_MUL => narrow(left.wrapping_mul(right)),
        const_op::I64_ADD => left.wrapping_add(right),
        const_op::I64_SUB => left.wrapping_sub(right),
        _ => left.wrapping_mul(right),
    }
}
