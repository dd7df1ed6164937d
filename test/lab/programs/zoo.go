// A Go program with something to find. See zoo.ts for what it reads and prints.
package main

import (
	"bufio"
	"encoding/hex"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Only what these hold stays alive and where it was.
var held []*string

// decode writes the plain bytes to their destination and nowhere else.
func decode(into []byte, coded string) int {
	raw, _ := hex.DecodeString(coded)
	for i, b := range raw {
		into[i] = b ^ 0x5a
	}
	return len(raw)
}

func tell(place string, at unsafe.Pointer) {
	os.Stdout.WriteString(place + " " + strconv.Itoa(os.Getpid()) + " 0x" + strconv.FormatUint(uint64(uintptr(at)), 16) + "\n")
}

func onHeap(coded string) {
	bytes := make([]byte, len(coded)/2)
	decode(bytes, coded)
	text := unsafe.String(&bytes[0], len(bytes))
	held = append(held, &text)
	tell("go-string", unsafe.Pointer(unsafe.StringData(text)))
}

func onStack(coded string, ready chan<- bool) {
	var array [256]byte
	for i := 0; i < len(coded)/2; i++ {
		b, _ := strconv.ParseUint(coded[2*i:2*i+2], 16, 8)
		array[i] = byte(b) ^ 0x5a
	}
	tell("go-stack", unsafe.Pointer(&array))
	ready <- true
	for array[0] != 0 {
		time.Sleep(time.Hour)
	}
}

func main() {
	// A collection may shrink a sleeping goroutine's stack, which moves it.
	debug.SetGCPercent(-1)
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		switch words[0] {
		case "go-string":
			onHeap(words[1])
		case "go-stack":
			ready := make(chan bool)
			go onStack(words[1], ready)
			<-ready
		}
	}
	os.Stdout.WriteString("ready\n")
	time.Sleep(time.Hour)
}
