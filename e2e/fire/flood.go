package fire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helloOf is the first message of a handshake for a name. The key exchange is
// what is cheap for an attacker, or what browsers ask for.
func helloOf(name string, cheap bool) ([]byte, error) {
	client, server := net.Pipe()
	defer func() { _ = client.Close(); _ = server.Close() }()
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if cheap {
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	go func() { _ = tls.Client(client, config).Handshake() }()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, err
	}
	hello := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	_, err := io.ReadFull(server, hello[5:])
	return hello, err
}

// flooded is what came of a flood: handshakes answered, refused by an alert, and
// all else.
type flooded struct {
	Answered, Refused, Failed int
	Last                      string // error of those that failed
	CPU                       time.Duration
}

func (f *flooded) add(o flooded) {
	f.Answered, f.Refused, f.Failed = f.Answered+o.Answered, f.Refused+o.Refused, f.Failed+o.Failed
	if o.Last != "" {
		f.Last = o.Last
	}
}

func (f *flooded) all() int { return f.Answered + f.Refused + f.Failed }

// floodOptions of a flood.
type floodOptions struct {
	Port, Parallel, Rate int
	Suffix               string // of the names
	Cheap                bool   // the key exchange; see helloOf
	Lasts                time.Duration
}

// floodEnv has this program be the flood's client, which is idleEnv once it has
// made way for all others.
const (
	floodEnv = "FIRE_FLOOD"
	idleEnv  = "FIRE_FLOOD_IDLE"
)

// flood runs the client in a process of its own, which comes after others for
// the processors, as if it were elsewhere: it is not what is measured.
func flood(ctx context.Context, o floodOptions) (seen flooded, err error) {
	said, err := json.Marshal(o)
	if err != nil {
		return seen, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), floodEnv+"="+string(said))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return seen, fmt.Errorf("flood: %w", err)
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		return seen, fmt.Errorf("flood said %q: %w", out, err)
	}
	seen.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return seen, nil
}

// beFlood is that process.
func beFlood(said string) error {
	var o floodOptions
	if err := json.Unmarshal([]byte(said), &o); err != nil {
		return err
	}
	if os.Getenv(idleEnv) == "" {
		return makeWay()
	}
	seen, err := o.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}

// makeWay begins the program anew with all its threads behind those of others:
// how a thread is scheduled outlasts exec, and those it makes inherit it.
func makeWay() error {
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("schedule the client behind all others: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), idleEnv+"=1"))
}

// run begins as many handshakes for names nobody knows as it can, each name
// once.
func (o floodOptions) run() (seen flooded, err error) {
	const mark = "x00000000"
	hello, err := helloOf(mark+o.Suffix, o.Cheap)
	if err != nil {
		return seen, err
	}
	at := bytes.Index(hello, []byte(mark))
	if at < 0 {
		return seen, errors.New("the hello has no name")
	}
	numbers := make(chan int, o.Parallel)
	var mu sync.Mutex
	var running sync.WaitGroup
	for range o.Parallel {
		mine := slices.Clone(hello)
		running.Go(func() {
			var own flooded
			answer := make([]byte, 2048)
			for n := range numbers {
				copy(mine[at:], fmt.Sprintf("x%08d", n))
				own.note(o.begin(mine, answer))
			}
			mu.Lock()
			defer mu.Unlock()
			seen.add(own)
		})
	}
	began := time.Now()
	for n := 0; time.Since(began) < o.Lasts; n++ {
		if ahead := time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(o.Rate))); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		numbers <- n
	}
	close(numbers)
	running.Wait()
	return seen, nil
}

func (f *flooded) note(answer []byte, err error) {
	switch {
	case err == nil && answer[0] == 22: // a handshake record
		f.Answered++
	case err == nil && bytes.Equal(answer, []byte{21, 3, 1, 0, 2, 2, 112}): // unrecognized_name
		f.Refused++
	default:
		if f.Failed++; err == nil {
			err = fmt.Errorf("answered %x", answer[:min(len(answer), 16)])
		}
		f.Last = err.Error()
	}
}

// begin sends a hello, gives the first of the answer, and goes away.
func (o floodOptions) begin(hello, answer []byte) ([]byte, error) {
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(o.Port))
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.SetLinger(0); _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	n, err := conn.Read(answer)
	return answer[:n], err
}
