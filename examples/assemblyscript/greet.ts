// Greets whoever the body names.
const buffer = new ArrayBuffer(100);
const count = process.stdin.read(buffer);
const name = String.UTF8.decodeUnsafe(changetype<usize>(buffer), count).split("\n")[0];
console.log("Hello, " + (name.length > 0 ? name : "world") + ", from AssemblyScript!");
