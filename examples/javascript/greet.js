// Greets whoever the body names.
import * as std from "qjs:std";
const name = std.in.getline() || "world";
console.log(`Hello, ${name}, from JavaScript!`);
