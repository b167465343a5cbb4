; floor, ceil, trunc and roundeven for x86-64 without SSE4.1.
;
; From 2^52 (2^23 for single precision) on every float is an integer: it stays, and a NaN becomes
; quiet. Below, a conversion to an integer and back cuts the fraction off and is put right; the sign
; is taken from the argument, so that -0.5 becomes -0.

define hidden double @trunc(double %x) #0 section "awsm_text" {
  %size = call double @llvm.fabs.f64(double %x)
  %small = fcmp olt double %size, 4503599627370496.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno double %x, %x
  %quiet = fadd double %x, %x
  %kept = select i1 %nan, double %quiet, double %x
  ret double %kept
round:
  %int = fptosi double %x to i64
  %r = sitofp i64 %int to double
  %signed = call double @llvm.copysign.f64(double %r, double %x)
  ret double %signed
}

define hidden double @floor(double %x) #0 section "awsm_text" {
  %size = call double @llvm.fabs.f64(double %x)
  %small = fcmp olt double %size, 4503599627370496.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno double %x, %x
  %quiet = fadd double %x, %x
  %kept = select i1 %nan, double %quiet, double %x
  ret double %kept
round:
  %int = fptosi double %x to i64
  %t = sitofp i64 %int to double
  %above = fcmp ogt double %t, %x
  %less = fsub double %t, 1.0
  %r = select i1 %above, double %less, double %t
  %signed = call double @llvm.copysign.f64(double %r, double %x)
  ret double %signed
}

define hidden double @ceil(double %x) #0 section "awsm_text" {
  %size = call double @llvm.fabs.f64(double %x)
  %small = fcmp olt double %size, 4503599627370496.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno double %x, %x
  %quiet = fadd double %x, %x
  %kept = select i1 %nan, double %quiet, double %x
  ret double %kept
round:
  %int = fptosi double %x to i64
  %t = sitofp i64 %int to double
  %below = fcmp olt double %t, %x
  %more = fadd double %t, 1.0
  %r = select i1 %below, double %more, double %t
  %signed = call double @llvm.copysign.f64(double %r, double %x)
  ret double %signed
}

define hidden double @roundeven(double %x) #0 section "awsm_text" {
  %size = call double @llvm.fabs.f64(double %x)
  %small = fcmp olt double %size, 4503599627370496.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno double %x, %x
  %quiet = fadd double %x, %x
  %kept = select i1 %nan, double %quiet, double %x
  ret double %kept
round:
  ; Adding the number from which on floats are integers rounds to even; taking it away keeps that.
  %big = call double @llvm.copysign.f64(double 4503599627370496.0, double %x)
  %shifted = fadd double %x, %big
  %r = fsub double %shifted, %big
  %signed = call double @llvm.copysign.f64(double %r, double %x)
  ret double %signed
}

define hidden float @truncf(float %x) #0 section "awsm_text" {
  %size = call float @llvm.fabs.f32(float %x)
  %small = fcmp olt float %size, 8388608.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno float %x, %x
  %quiet = fadd float %x, %x
  %kept = select i1 %nan, float %quiet, float %x
  ret float %kept
round:
  %int = fptosi float %x to i32
  %r = sitofp i32 %int to float
  %signed = call float @llvm.copysign.f32(float %r, float %x)
  ret float %signed
}

define hidden float @floorf(float %x) #0 section "awsm_text" {
  %size = call float @llvm.fabs.f32(float %x)
  %small = fcmp olt float %size, 8388608.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno float %x, %x
  %quiet = fadd float %x, %x
  %kept = select i1 %nan, float %quiet, float %x
  ret float %kept
round:
  %int = fptosi float %x to i32
  %t = sitofp i32 %int to float
  %above = fcmp ogt float %t, %x
  %less = fsub float %t, 1.0
  %r = select i1 %above, float %less, float %t
  %signed = call float @llvm.copysign.f32(float %r, float %x)
  ret float %signed
}

define hidden float @ceilf(float %x) #0 section "awsm_text" {
  %size = call float @llvm.fabs.f32(float %x)
  %small = fcmp olt float %size, 8388608.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno float %x, %x
  %quiet = fadd float %x, %x
  %kept = select i1 %nan, float %quiet, float %x
  ret float %kept
round:
  %int = fptosi float %x to i32
  %t = sitofp i32 %int to float
  %below = fcmp olt float %t, %x
  %more = fadd float %t, 1.0
  %r = select i1 %below, float %more, float %t
  %signed = call float @llvm.copysign.f32(float %r, float %x)
  ret float %signed
}

define hidden float @roundevenf(float %x) #0 section "awsm_text" {
  %size = call float @llvm.fabs.f32(float %x)
  %small = fcmp olt float %size, 8388608.0
  br i1 %small, label %round, label %keep
keep:
  %nan = fcmp uno float %x, %x
  %quiet = fadd float %x, %x
  %kept = select i1 %nan, float %quiet, float %x
  ret float %kept
round:
  ; Adding the number from which on floats are integers rounds to even; taking it away keeps that.
  %big = call float @llvm.copysign.f32(float 8388608.0, float %x)
  %shifted = fadd float %x, %big
  %r = fsub float %shifted, %big
  %signed = call float @llvm.copysign.f32(float %r, float %x)
  ret float %signed
}

@rint = hidden alias double (double), ptr @roundeven
@nearbyint = hidden alias double (double), ptr @roundeven
@rintf = hidden alias float (float), ptr @roundevenf
@nearbyintf = hidden alias float (float), ptr @roundevenf

declare double @llvm.fabs.f64(double)
declare float @llvm.fabs.f32(float)
declare double @llvm.copysign.f64(double, double)
declare float @llvm.copysign.f32(float, float)

attributes #0 = { nounwind "no-builtins" "disable-tail-calls"="true" }
