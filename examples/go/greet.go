// Greets whoever the body names.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	name := "world"
	lines := bufio.NewScanner(os.Stdin)
	if lines.Scan() && lines.Text() != "" {
		name = lines.Text()
	}
	fmt.Printf("Hello, %s, from Go!\n", name)
}
