//! Calls from guests into the host.
//!
//! A host function is an ordinary function of safe Rust. It gets the caller's memory and data, and
//! answers a value or how the guest leaves. It never suspends itself: it says what it waits for,
//! and is called again, with the same arguments, when that is over. So nothing of it is on the
//! guest's stack when the guest is suspended, ended or killed.
//!
//! Isolation rests on this file: it turns native registers into those arguments.

use std::panic::AssertUnwindSafe;

use awsm_abi::desc::val_type;
use awsm_abi::trap::TrapKind;

use crate::guest_memory::{GuestMemory, GuestPtr};
use crate::instance::Instance;
use crate::instance::builtins::instance_of;
use crate::stop::Wait;
use crate::switch::arch::stack_checked;
use crate::switch::current::{Pause, leave, suspend};
use crate::switch::preempt;
use crate::value::MemoryIdx;

/// The answer of a host function: a value, or the way in which the guest leaves.
pub type HostResult<R> = Result<R, Leave>;

/// How a guest leaves a host function other than by returning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It ends with this exit code.
    Exit(i32),
    /// It ends with this fault.
    Trap(TrapKind),
    /// It waits. The function is called again afterwards, see [`HostCall::woken`].
    Block(Wait),
    /// Its time is up, see [`crate::switch::preempt::is_due`], and the function is not done. It is
    /// called again when the guest has the core again, and goes on where its data says that it was:
    /// some way at least, since its time may be up again at once.
    Preempted,
}

/// The caller of a host function.
pub struct HostCall<'a, T> {
    instance: &'a mut Instance,
    data: &'a mut T,
    woken: bool,
}

impl<T> HostCall<'_, T> {
    /// The invocation's data.
    #[inline]
    pub fn data(&mut self) -> &mut T {
        self.data
    }

    /// The caller's memory and the invocation's data at once. The memory of a module that has none
    /// is empty.
    #[inline]
    pub fn parts(&mut self) -> (GuestMemory<'_>, &mut T) {
        let memory = self.instance.memory(MemoryIdx(0));
        if memory.is_null() {
            return (GuestMemory::new(&mut []), self.data);
        }
        // SAFETY: base and size describe the open part of a slot. The guest waits for this call,
        // the borrow ends before it goes on, and an invocation's memory is its own.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut((*memory).base, (*memory).bytes as usize) };
        (GuestMemory::new(bytes), self.data)
    }

    /// The caller's memory.
    #[inline]
    pub fn memory(&mut self) -> GuestMemory<'_> {
        self.parts().0
    }

    /// Is this the call after a [`Leave::Block`] or [`Leave::Preempted`] of the same call?
    #[must_use]
    pub fn woken(&self) -> bool {
        self.woken
    }
}

/// Runs a host function and does what it says.
///
/// # Safety
/// Called by compiled code with its context, which waits for this call, of an instance of a program
/// over `T`.
#[inline]
unsafe fn serve<T, R>(
    ctx: *mut u8,
    mut function: impl FnMut(&mut HostCall<'_, T>) -> HostResult<R>,
) -> R {
    let mut woken = false;
    loop {
        let outcome = {
            // SAFETY: the caller's duty. The pool has set `data` to the invocation's, of its `T`:
            // the linker that made this function has the same `T` as the program, and so the pool.
            let (instance, data) = unsafe {
                let instance = instance_of(ctx);
                let data = &mut *instance.host_data().cast::<T>();
                (instance, data)
            };
            let mut call = HostCall { instance, data, woken };
            let guarded = AssertUnwindSafe(|| function(&mut call));
            std::panic::catch_unwind(guarded).unwrap_or(Err(Leave::Trap(TrapKind::HostPanic)))
        };
        match outcome {
            Ok(value) => {
                preempt::on_return();
                return value;
            }
            Err(Leave::Block(wait)) => suspend(Pause::Blocked(wait)),
            Err(Leave::Preempted) => suspend(Pause::Preempted),
            Err(Leave::Exit(code)) => leave(Pause::Exited(code)),
            Err(Leave::Trap(kind)) => leave(Pause::Trapped(kind)),
        }
        woken = true;
    }
}

/// Only this crate says how values are passed and what native code there is: compiled code believes
/// it.
mod sealed {
    pub trait Value {}
    pub trait Func<T, Params, R> {}
}

/// Types of host functions' parameters: the integers, floats and pointers that this crate knows.
pub trait HostArg: sealed::Value {
    /// Its native form as an argument.
    type Raw;
    /// Its wasm type, a [`val_type`].
    const TYPE: u32;
    /// The argument that was passed.
    fn from_raw(raw: Self::Raw) -> Self;
}

/// Types of host functions' results, likewise.
pub trait HostReturn: sealed::Value {
    /// Its native form as a result.
    type Raw;
    /// Its wasm types: none or one.
    const TYPES: &'static [u32];
    /// The result to return.
    fn into_raw(self) -> Self::Raw;
}

macro_rules! host_values {
    ($($rust:ty as $raw:ty: $code:ident, $to:expr, $from:expr;)*) => {$(
        impl sealed::Value for $rust {}
        impl HostArg for $rust {
            type Raw = $raw;
            const TYPE: u32 = val_type::$code;
            #[inline]
            fn from_raw(raw: $raw) -> Self {
                $to(raw)
            }
        }
        impl HostReturn for $rust {
            type Raw = $raw;
            const TYPES: &'static [u32] = &[val_type::$code];
            #[inline]
            fn into_raw(self) -> $raw {
                $from(self)
            }
        }
    )*};
}
host_values! {
    i32 as i32: I32, std::convert::identity, std::convert::identity;
    u32 as i32: I32, i32::cast_unsigned, u32::cast_signed;
    i64 as i64: I64, std::convert::identity, std::convert::identity;
    u64 as i64: I64, i64::cast_unsigned, u64::cast_signed;
    f32 as f32: F32, std::convert::identity, std::convert::identity;
    f64 as f64: F64, std::convert::identity, std::convert::identity;
}

impl<P> sealed::Value for GuestPtr<P> {}

impl<P> HostArg for GuestPtr<P> {
    type Raw = i32;
    const TYPE: u32 = val_type::I32;
    #[inline]
    fn from_raw(raw: i32) -> Self {
        Self::new(raw.cast_unsigned())
    }
}

impl sealed::Value for () {}

impl HostReturn for () {
    type Raw = ();
    const TYPES: &'static [u32] = &[];
    #[inline]
    fn into_raw(self) {}
}

/// A function item that can be a host function: `fn(&mut HostCall<T>, args..) -> HostResult<R>`, or
/// a closure that holds nothing. Guests call it on any thread that has a pool, and several at once.
pub trait HostFunc<T, Params, R>:
    sealed::Func<T, Params, R> + Copy + Send + Sync + 'static
{
    /// The parameters' wasm types.
    fn params() -> Vec<u32>;
    /// Native code with the signature that the contract gives such an import.
    fn code() -> *const ();
}

macro_rules! host_func {
    ($($arg:ident: $Arg:ident),*) => {
        impl<T: 'static, Func, R, $($Arg),*> sealed::Func<T, ($($Arg,)*), R> for Func
        where
            Func: Fn(&mut HostCall<'_, T>, $($Arg),*) -> HostResult<R> + Copy + Send + Sync + 'static,
        {
        }

        impl<T: 'static, Func, R, $($Arg),*> HostFunc<T, ($($Arg,)*), R> for Func
        where
            R: HostReturn + 'static,
            Func: Fn(&mut HostCall<'_, T>, $($Arg),*) -> HostResult<R> + Copy + Send + Sync + 'static,
            $($Arg: HostArg + 'static, $Arg::Raw: Copy,)*
        {
            fn params() -> Vec<u32> {
                vec![$($Arg::TYPE),*]
            }

            fn code() -> *const () {
                unsafe extern "C" fn run<T: 'static, Func, R, $($Arg),*>(
                    ctx: *mut u8,
                    $($arg: $Arg::Raw),*
                ) -> R::Raw
                where
                    R: HostReturn + 'static,
                    Func: Fn(&mut HostCall<'_, T>, $($Arg),*) -> HostResult<R> + Copy + Send + Sync + 'static,
                    $($Arg: HostArg + 'static, $Arg::Raw: Copy,)*
                {
                    const { assert!(size_of::<Func>() == 0, "a function item, not a pointer") };
                    // SAFETY: a value of a type without size is any aligned address; `Func` is
                    // Copy, and the linker was given one, so values of it exist.
                    let function = unsafe { std::ptr::NonNull::<Func>::dangling().read() };
                    let function = |call: &mut HostCall<'_, T>| {
                        function(call, $($Arg::from_raw($arg)),*)
                    };
                    // SAFETY: compiled code calls this with its context; `Program::link` has
                    // compared the types, and gives programs over `T` functions over `T`.
                    unsafe { serve(ctx, function) }.into_raw()
                }
                stack_checked! {
                    fn checked [<T: 'static, Func, R, $($Arg),*>()
                    where
                        R: HostReturn + 'static,
                        Func: Fn(&mut HostCall<'_, T>, $($Arg),*) -> HostResult<R> + Copy + Send + Sync + 'static,
                        $($Arg: HostArg + 'static, $Arg::Raw: Copy,)*]
                    => run::<T, Func, R, $($Arg),*>
                }
                checked::<T, Func, R, $($Arg),*> as *const ()
            }
        }
    };
}
host_func!();
host_func!(a: A);
host_func!(a: A, b: B);
host_func!(a: A, b: B, c: C);
host_func!(a: A, b: B, c: C, d: D);
host_func!(a: A, b: B, c: C, d: D, e: E);
host_func!(a: A, b: B, c: C, d: D, e: E, f: F);
host_func!(a: A, b: B, c: C, d: D, e: E, f: F, g: G);
host_func!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H);
host_func!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H, i: I);

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::{HostCall, HostFunc, HostResult};

    /// Says of a value whether it can be a host function: the method of `Yes` is found first where
    /// it applies.
    struct Candidate<F>(F);

    trait Yes {
        fn can_be_a_host_function(&self) -> bool {
            true
        }
    }

    impl<F: HostFunc<(), (i32,), i32>> Yes for Candidate<F> {}

    trait No {
        fn can_be_a_host_function(&self) -> bool {
            false
        }
    }

    impl<F> No for &Candidate<F> {}

    /// Shows that it is on a certain thread, as values without size may.
    #[derive(Clone, Copy)]
    struct OnThisThread(PhantomData<*mut ()>);

    impl OnThisThread {
        fn number(self) -> i32 {
            1
        }
    }

    /// A closure that looks like a function item, since what it holds has no size.
    fn bound() -> impl Fn(&mut HostCall<'_, ()>, i32) -> HostResult<i32> + Copy + 'static {
        let here = OnThisThread(PhantomData);
        move |_, number| Ok(number + here.number())
    }

    /// One that holds nothing.
    fn free() -> impl Fn(&mut HostCall<'_, ()>, i32) -> HostResult<i32> + Copy + 'static {
        |_, number| Ok(number)
    }

    #[test]
    fn host_functions_belong_to_no_thread() {
        fn item(_: &mut HostCall<'_, ()>, number: i32) -> HostResult<i32> {
            Ok(number)
        }
        assert_eq!(size_of_val(&bound()), 0);
        let (item, free, bound) = (&Candidate(item), &Candidate(free()), &Candidate(bound()));
        assert!(item.can_be_a_host_function());
        assert!(free.can_be_a_host_function());
        assert!(!bound.can_be_a_host_function());
    }
}
