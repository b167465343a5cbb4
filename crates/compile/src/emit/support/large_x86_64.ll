; Large copies and fills on x86-64: the string instructions, which are the fastest way on processors
; of the last ten years and can be interrupted in the middle. They work upwards.

define internal i1 @large_copy(ptr %to, ptr %from, i64 %len) alwaysinline nounwind {
  %large = icmp uge i64 %len, 2048
  ; Slow if the ranges are a few bytes apart.
  %to.n = ptrtoint ptr %to to i64
  %from.n = ptrtoint ptr %from to i64
  %down = sub i64 %from.n, %to.n
  %near = icmp ult i64 %down, 64
  %far = xor i1 %near, true
  %do = and i1 %large, %far
  br i1 %do, label %string, label %no
string:
  %end = call { ptr, ptr, i64 } asm sideeffect "rep movsb", "={di},={si},={cx},0,1,2,~{memory},~{dirflag},~{fpsr},~{flags}"(ptr %to, ptr %from, i64 %len)
  ret i1 true
no:
  ret i1 false
}

define internal i1 @large_fill(ptr %to, i8 %byte, i64 %len) alwaysinline nounwind {
  %large = icmp uge i64 %len, 2048
  br i1 %large, label %string, label %no
string:
  %end = call { ptr, i64 } asm sideeffect "rep stosb", "={di},={cx},{ax},0,1,~{memory},~{dirflag},~{fpsr},~{flags}"(i8 %byte, ptr %to, i64 %len)
  ret i1 true
no:
  ret i1 false
}
