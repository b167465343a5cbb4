; memcpy, memmove, memset and memcmp for compiled modules.
;
; Short ranges are covered by two, four or eight vectors that may overlap, all loaded before the first
; is stored. Longer ones go through a loop of 128 bytes a round, upwards or downwards as the ranges
; overlap; the odd end is loaded before the loop and stored after it. "no-builtins" keeps LLVM from
; recognising the loops as what they are and calling them from themselves.

@memcpy = hidden alias ptr (ptr, ptr, i64), ptr @memmove
@bcmp = hidden alias i32 (ptr, ptr, i64), ptr @memcmp

define hidden ptr @memmove(ptr %to, ptr %from, i64 %len) #0 section "awsm_text" {
  %over.16 = icmp ugt i64 %len, 16
  br i1 %over.16, label %more.16, label %upto.16

upto.16:
  %has.8 = icmp uge i64 %len, 8
  br i1 %has.8, label %two.8, label %upto.7
two.8:
  %at.8 = sub i64 %len, 8
  %from.8 = getelementptr i8, ptr %from, i64 %at.8
  %to.8 = getelementptr i8, ptr %to, i64 %at.8
  %first.8 = load i64, ptr %from, align 1
  %last.8 = load i64, ptr %from.8, align 1
  store i64 %first.8, ptr %to, align 1
  store i64 %last.8, ptr %to.8, align 1
  ret ptr %to
upto.7:
  %has.4 = icmp uge i64 %len, 4
  br i1 %has.4, label %two.4, label %upto.3
two.4:
  %at.4 = sub i64 %len, 4
  %from.4 = getelementptr i8, ptr %from, i64 %at.4
  %to.4 = getelementptr i8, ptr %to, i64 %at.4
  %first.4 = load i32, ptr %from, align 1
  %last.4 = load i32, ptr %from.4, align 1
  store i32 %first.4, ptr %to, align 1
  store i32 %last.4, ptr %to.4, align 1
  ret ptr %to
upto.3:
  %has.1 = icmp ne i64 %len, 0
  br i1 %has.1, label %some, label %done
some:
  ; One to three bytes: the first, the middle, the last.
  %middle = lshr i64 %len, 1
  %at.last = sub i64 %len, 1
  %from.m = getelementptr i8, ptr %from, i64 %middle
  %from.l = getelementptr i8, ptr %from, i64 %at.last
  %to.m = getelementptr i8, ptr %to, i64 %middle
  %to.l = getelementptr i8, ptr %to, i64 %at.last
  %first.1 = load i8, ptr %from, align 1
  %middle.1 = load i8, ptr %from.m, align 1
  %last.1 = load i8, ptr %from.l, align 1
  store i8 %first.1, ptr %to, align 1
  store i8 %middle.1, ptr %to.m, align 1
  store i8 %last.1, ptr %to.l, align 1
  ret ptr %to
done:
  ret ptr %to

more.16:
  %over.32 = icmp ugt i64 %len, 32
  br i1 %over.32, label %more.32, label %two.16
two.16:
  %at.16 = sub i64 %len, 16
  %from.16 = getelementptr i8, ptr %from, i64 %at.16
  %to.16 = getelementptr i8, ptr %to, i64 %at.16
  %first.16 = load <16 x i8>, ptr %from, align 1
  %last.16 = load <16 x i8>, ptr %from.16, align 1
  store <16 x i8> %first.16, ptr %to, align 1
  store <16 x i8> %last.16, ptr %to.16, align 1
  ret ptr %to

more.32:
  %over.64 = icmp ugt i64 %len, 64
  br i1 %over.64, label %more.64, label %two.32
two.32:
  %at.32 = sub i64 %len, 32
  %from.32 = getelementptr i8, ptr %from, i64 %at.32
  %to.32 = getelementptr i8, ptr %to, i64 %at.32
  %first.32 = load <32 x i8>, ptr %from, align 1
  %last.32 = load <32 x i8>, ptr %from.32, align 1
  store <32 x i8> %first.32, ptr %to, align 1
  store <32 x i8> %last.32, ptr %to.32, align 1
  ret ptr %to

more.64:
  %over.128 = icmp ugt i64 %len, 128
  br i1 %over.128, label %more.128, label %four.32
four.32:
  %at.b = sub i64 %len, 64
  %at.c = sub i64 %len, 32
  %from.a = getelementptr i8, ptr %from, i64 32
  %from.b = getelementptr i8, ptr %from, i64 %at.b
  %from.c = getelementptr i8, ptr %from, i64 %at.c
  %to.a = getelementptr i8, ptr %to, i64 32
  %to.b = getelementptr i8, ptr %to, i64 %at.b
  %to.c = getelementptr i8, ptr %to, i64 %at.c
  %v.0 = load <32 x i8>, ptr %from, align 1
  %v.a = load <32 x i8>, ptr %from.a, align 1
  %v.b = load <32 x i8>, ptr %from.b, align 1
  %v.c = load <32 x i8>, ptr %from.c, align 1
  store <32 x i8> %v.0, ptr %to, align 1
  store <32 x i8> %v.a, ptr %to.a, align 1
  store <32 x i8> %v.b, ptr %to.b, align 1
  store <32 x i8> %v.c, ptr %to.c, align 1
  ret ptr %to

more.128:
  %to.n = ptrtoint ptr %to to i64
  %from.n = ptrtoint ptr %from to i64
  %distance = sub i64 %to.n, %from.n
  ; The target begins inside the source: downwards. Else upwards, which includes a target below.
  %inside = icmp ult i64 %distance, %len
  br i1 %inside, label %down, label %up

up:
  %copied = call i1 @large_copy(ptr %to, ptr %from, i64 %len)
  br i1 %copied, label %done, label %up.loop.before
up.loop.before:
  ; The last 128 bytes are written after the loop, which covers all before them.
  %tail.at = sub i64 %len, 128
  %tail.from = getelementptr i8, ptr %from, i64 %tail.at
  %tail.from.1 = getelementptr i8, ptr %tail.from, i64 32
  %tail.from.2 = getelementptr i8, ptr %tail.from, i64 64
  %tail.from.3 = getelementptr i8, ptr %tail.from, i64 96
  %tail.0 = load <32 x i8>, ptr %tail.from, align 1
  %tail.1 = load <32 x i8>, ptr %tail.from.1, align 1
  %tail.2 = load <32 x i8>, ptr %tail.from.2, align 1
  %tail.3 = load <32 x i8>, ptr %tail.from.3, align 1
  br label %up.loop
up.loop:
  %u = phi i64 [ 0, %up.loop.before ], [ %u.next, %up.loop ]
  %u.from.0 = getelementptr i8, ptr %from, i64 %u
  %u.from.1 = getelementptr i8, ptr %u.from.0, i64 32
  %u.from.2 = getelementptr i8, ptr %u.from.0, i64 64
  %u.from.3 = getelementptr i8, ptr %u.from.0, i64 96
  %u.to.0 = getelementptr i8, ptr %to, i64 %u
  %u.to.1 = getelementptr i8, ptr %u.to.0, i64 32
  %u.to.2 = getelementptr i8, ptr %u.to.0, i64 64
  %u.to.3 = getelementptr i8, ptr %u.to.0, i64 96
  %u.0 = load <32 x i8>, ptr %u.from.0, align 1
  %u.1 = load <32 x i8>, ptr %u.from.1, align 1
  %u.2 = load <32 x i8>, ptr %u.from.2, align 1
  %u.3 = load <32 x i8>, ptr %u.from.3, align 1
  store <32 x i8> %u.0, ptr %u.to.0, align 1
  store <32 x i8> %u.1, ptr %u.to.1, align 1
  store <32 x i8> %u.2, ptr %u.to.2, align 1
  store <32 x i8> %u.3, ptr %u.to.3, align 1
  %u.next = add i64 %u, 128
  %u.more = icmp ult i64 %u.next, %tail.at
  br i1 %u.more, label %up.loop, label %up.tail, !llvm.loop !1
up.tail:
  %tail.to = getelementptr i8, ptr %to, i64 %tail.at
  %tail.to.1 = getelementptr i8, ptr %tail.to, i64 32
  %tail.to.2 = getelementptr i8, ptr %tail.to, i64 64
  %tail.to.3 = getelementptr i8, ptr %tail.to, i64 96
  store <32 x i8> %tail.0, ptr %tail.to, align 1
  store <32 x i8> %tail.1, ptr %tail.to.1, align 1
  store <32 x i8> %tail.2, ptr %tail.to.2, align 1
  store <32 x i8> %tail.3, ptr %tail.to.3, align 1
  ret ptr %to

down:
  ; The first 128 bytes are written after the loop, which covers all behind them.
  %head.from.1 = getelementptr i8, ptr %from, i64 32
  %head.from.2 = getelementptr i8, ptr %from, i64 64
  %head.from.3 = getelementptr i8, ptr %from, i64 96
  %head.0 = load <32 x i8>, ptr %from, align 1
  %head.1 = load <32 x i8>, ptr %head.from.1, align 1
  %head.2 = load <32 x i8>, ptr %head.from.2, align 1
  %head.3 = load <32 x i8>, ptr %head.from.3, align 1
  br label %down.loop
down.loop:
  %d = phi i64 [ %len, %down ], [ %d.next, %down.loop ]
  %d.next = sub i64 %d, 128
  %d.from.0 = getelementptr i8, ptr %from, i64 %d.next
  %d.from.1 = getelementptr i8, ptr %d.from.0, i64 32
  %d.from.2 = getelementptr i8, ptr %d.from.0, i64 64
  %d.from.3 = getelementptr i8, ptr %d.from.0, i64 96
  %d.to.0 = getelementptr i8, ptr %to, i64 %d.next
  %d.to.1 = getelementptr i8, ptr %d.to.0, i64 32
  %d.to.2 = getelementptr i8, ptr %d.to.0, i64 64
  %d.to.3 = getelementptr i8, ptr %d.to.0, i64 96
  %d.0 = load <32 x i8>, ptr %d.from.0, align 1
  %d.1 = load <32 x i8>, ptr %d.from.1, align 1
  %d.2 = load <32 x i8>, ptr %d.from.2, align 1
  %d.3 = load <32 x i8>, ptr %d.from.3, align 1
  store <32 x i8> %d.0, ptr %d.to.0, align 1
  store <32 x i8> %d.1, ptr %d.to.1, align 1
  store <32 x i8> %d.2, ptr %d.to.2, align 1
  store <32 x i8> %d.3, ptr %d.to.3, align 1
  %d.more = icmp ugt i64 %d.next, 128
  br i1 %d.more, label %down.loop, label %down.head, !llvm.loop !0
down.head:
  %head.to.1 = getelementptr i8, ptr %to, i64 32
  %head.to.2 = getelementptr i8, ptr %to, i64 64
  %head.to.3 = getelementptr i8, ptr %to, i64 96
  store <32 x i8> %head.0, ptr %to, align 1
  store <32 x i8> %head.1, ptr %head.to.1, align 1
  store <32 x i8> %head.2, ptr %head.to.2, align 1
  store <32 x i8> %head.3, ptr %head.to.3, align 1
  ret ptr %to
}

define hidden ptr @memset(ptr %to, i32 %value, i64 %len) #0 section "awsm_text" {
  %byte = trunc i32 %value to i8
  %one = insertelement <32 x i8> poison, i8 %byte, i64 0
  %v32 = shufflevector <32 x i8> %one, <32 x i8> poison, <32 x i32> zeroinitializer
  %v16 = shufflevector <32 x i8> %v32, <32 x i8> poison, <16 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7, i32 8, i32 9, i32 10, i32 11, i32 12, i32 13, i32 14, i32 15>
  %wide = zext i8 %byte to i64
  %v8 = mul i64 %wide, 72340172838076673
  %over.16 = icmp ugt i64 %len, 16
  br i1 %over.16, label %more.16, label %upto.16

upto.16:
  %has.8 = icmp uge i64 %len, 8
  br i1 %has.8, label %two.8, label %upto.7
two.8:
  %at.8 = sub i64 %len, 8
  %to.8 = getelementptr i8, ptr %to, i64 %at.8
  store i64 %v8, ptr %to, align 1
  store i64 %v8, ptr %to.8, align 1
  ret ptr %to
upto.7:
  %v4 = trunc i64 %v8 to i32
  %has.4 = icmp uge i64 %len, 4
  br i1 %has.4, label %two.4, label %upto.3
two.4:
  %at.4 = sub i64 %len, 4
  %to.4 = getelementptr i8, ptr %to, i64 %at.4
  store i32 %v4, ptr %to, align 1
  store i32 %v4, ptr %to.4, align 1
  ret ptr %to
upto.3:
  %has.1 = icmp ne i64 %len, 0
  br i1 %has.1, label %some, label %done
some:
  %middle = lshr i64 %len, 1
  %at.last = sub i64 %len, 1
  %to.m = getelementptr i8, ptr %to, i64 %middle
  %to.l = getelementptr i8, ptr %to, i64 %at.last
  store i8 %byte, ptr %to, align 1
  store i8 %byte, ptr %to.m, align 1
  store i8 %byte, ptr %to.l, align 1
  ret ptr %to
done:
  ret ptr %to

more.16:
  %over.32 = icmp ugt i64 %len, 32
  br i1 %over.32, label %more.32, label %two.16
two.16:
  %at.16 = sub i64 %len, 16
  %to.16 = getelementptr i8, ptr %to, i64 %at.16
  store <16 x i8> %v16, ptr %to, align 1
  store <16 x i8> %v16, ptr %to.16, align 1
  ret ptr %to

more.32:
  %over.64 = icmp ugt i64 %len, 64
  br i1 %over.64, label %more.64, label %two.32
two.32:
  %at.32 = sub i64 %len, 32
  %to.32 = getelementptr i8, ptr %to, i64 %at.32
  store <32 x i8> %v32, ptr %to, align 1
  store <32 x i8> %v32, ptr %to.32, align 1
  ret ptr %to

more.64:
  %filled = call i1 @large_fill(ptr %to, i8 %byte, i64 %len)
  br i1 %filled, label %done, label %before
before:
  ; The last 64 bytes after the loop, which covers all before them.
  %tail.at = sub i64 %len, 64
  br label %loop
loop:
  %u = phi i64 [ 0, %before ], [ %u.next, %loop ]
  %u.0 = getelementptr i8, ptr %to, i64 %u
  %u.1 = getelementptr i8, ptr %u.0, i64 32
  store <32 x i8> %v32, ptr %u.0, align 1
  store <32 x i8> %v32, ptr %u.1, align 1
  %u.next = add i64 %u, 64
  %more = icmp ult i64 %u.next, %tail.at
  br i1 %more, label %loop, label %tail, !llvm.loop !2
tail:
  %tail.0 = getelementptr i8, ptr %to, i64 %tail.at
  %tail.1 = getelementptr i8, ptr %tail.0, i64 32
  store <32 x i8> %v32, ptr %tail.0, align 1
  store <32 x i8> %v32, ptr %tail.1, align 1
  ret ptr %to
}

define hidden i32 @memcmp(ptr %a, ptr %b, i64 %len) #0 section "awsm_text" {
  %empty = icmp eq i64 %len, 0
  br i1 %empty, label %equal, label %loop
loop:
  %at = phi i64 [ 0, %0 ], [ %next, %same ]
  %a.at = getelementptr i8, ptr %a, i64 %at
  %b.at = getelementptr i8, ptr %b, i64 %at
  %x = load i8, ptr %a.at, align 1
  %y = load i8, ptr %b.at, align 1
  %next = add i64 %at, 1
  %differ = icmp ne i8 %x, %y
  br i1 %differ, label %different, label %same
same:
  %last = icmp eq i64 %next, %len
  br i1 %last, label %equal, label %loop
different:
  %x.n = zext i8 %x to i32
  %y.n = zext i8 %y to i32
  %order = sub i32 %x.n, %y.n
  ret i32 %order
equal:
  ret i32 0
}

attributes #0 = { nounwind "no-builtins" "disable-tail-calls"="true" }

; Unrolled, a loop would count on its number of rounds being even, which the verifier does not follow.
!0 = distinct !{!0, !3}
!1 = distinct !{!1, !3}
!2 = distinct !{!2, !3}
!3 = !{!"llvm.loop.unroll.disable"}
