//go:build killpoints

package killpoint

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// On tells whether this build has the points.
const On = true

// Do calls act between its two points.
func Do(point string, act func() error) error {
	at("before " + point)
	err := act()
	at("after " + point)
	return err
}

// orderFile is the variable that names the file with the order a test has for
// whichever of its processes comes by first: "kill before CA newOrder", "stop
// after put orders". The process takes the file away (the pid is added to its
// name) and obeys.
const orderFile = "KILLPOINT_FILE"

func at(point string) {
	file := os.Getenv(orderFile)
	if file == "" {
		return
	}
	order, err := os.ReadFile(file)
	if err != nil {
		return
	}
	what, where, _ := strings.Cut(strings.TrimSpace(string(order)), " ")
	if where != point {
		return
	}
	if os.Rename(file, file+".taken") != nil {
		return // another process was faster
	}
	signal := syscall.SIGKILL
	if what == "stop" {
		signal = syscall.SIGSTOP
	}
	_ = syscall.Kill(os.Getpid(), signal)
	time.Sleep(time.Millisecond) // a stop takes effect here, on every thread
}
