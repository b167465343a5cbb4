//! Greets whoever the body names.

const std = @import("std");
const File = std.Io.File;

pub fn main(init: std.process.Init) !void {
    var body_buffer: [1024]u8 = undefined;
    var answer_buffer: [1024]u8 = undefined;
    var body = File.Reader.init(.stdin(), init.io, &body_buffer);
    var answer = File.Writer.init(.stdout(), init.io, &answer_buffer);
    const line = try body.interface.takeDelimiter('\n') orelse "";
    const name = if (line.len > 0) line else "world";
    try answer.interface.print("Hello, {s}, from Zig!\n", .{name});
    try answer.interface.flush();
}
