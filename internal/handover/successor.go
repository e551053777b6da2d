package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Socket is one to hand over; whoever made it closes the files.
type Socket struct {
	Name    string
	File    *os.File
	Packets *os.File // where datagrams are passed on; nil: nowhere. See Packets
}

// Plan says how a successor is started.
type Plan struct {
	Path    string   // of the program
	Args    []string // without its name
	Sockets []Socket
}

// Successor is a process that has taken over.
type Successor struct {
	PID   int
	alive *os.File
}

// Drained tells the successor that this process has nothing more under way.
func (s *Successor) Drained() { s.alive.Close() }

// reportLimit bounds what a successor may say of its failure.
const reportLimit = 4 << 10

// Start starts a successor and waits until it serves. With an error there is
// none: it has ended or was killed, and the error has its reason. The process
// has our folder, environment and output.
func Start(ctx context.Context, p Plan) (*Successor, error) {
	report, theirReport, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start successor %s: %w", p.Path, err)
	}
	defer report.Close()
	theirAlive, alive, err := os.Pipe()
	if err != nil {
		theirReport.Close()
		return nil, fmt.Errorf("start successor %s: %w", p.Path, err)
	}
	files, names := []*os.File{os.Stdin, os.Stdout, os.Stderr}, []string{}
	var packets []*os.File
	var with []string // the numbers of those who have such
	for i, s := range p.Sockets {
		names = append(names, s.Name)
		files = append(files, s.File)
		if s.Packets != nil {
			packets, with = append(packets, s.Packets), append(with, strconv.Itoa(i))
		}
	}
	process, err := spawn(p, append(append(files, theirReport, theirAlive), packets...), envCount+"="+strconv.Itoa(len(p.Sockets)),
		envNames+"="+strings.Join(names, ":"), envPredecessor+"="+strconv.Itoa(os.Getpid()), envPackets+"="+strings.Join(with, ":"))
	theirReport.Close()
	theirAlive.Close()
	if err != nil {
		alive.Close()
		return nil, fmt.Errorf("start successor %s: %w", p.Path, err)
	}
	word := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(report, reportLimit))
		word <- string(text)
	}()
	ended := make(chan struct{})
	var state *os.ProcessState
	go func() { // also when it serves: nothing is left behind
		state, _ = process.Wait()
		close(ended)
	}()
	var said string
	select {
	case said = <-word:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if said == readyWord {
		return &Successor{PID: process.Pid, alive: alive}, nil
	}
	alive.Close()
	process.Kill() //nolint:errcheck // it may have ended
	<-ended
	switch {
	case err != nil:
		err = fmt.Errorf("it was not ready in time and was killed: %w", err)
	case said != "":
		err = errors.New(said)
	default:
		err = fmt.Errorf("it ended before it was ready: %v", state)
	}
	return nil, fmt.Errorf("start successor %s: %w", p.Path, err)
}

// spawn starts the process by the system call itself: os/exec would make the
// sockets blocking, for this process too, as both share their state.
func spawn(p Plan, files []*os.File, env ...string) (*os.Process, error) {
	attr := &syscall.ProcAttr{Env: append(os.Environ(), env...)}
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { attr.Files = append(attr.Files, fd) })
		}
		if err != nil {
			return nil, err
		}
	}
	pid, err := syscall.ForkExec(p.Path, append([]string{p.Path}, p.Args...), attr)
	runtime.KeepAlive(files)
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}
