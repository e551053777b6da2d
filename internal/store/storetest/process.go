package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// where the process started by the suite finds the store; set: it is one.
const processEnv = "GATEHOUSE_STORETEST_PROCESS"

// Main is the body of a store's TestMain: it runs the tests or, in a process
// that the suite started, holds what the suite wants held. open opens the
// store at Options.Where. The caller exits with what it returns.
func Main(m *testing.M, open func(where, replica string) (store.Store, error)) int {
	where := os.Getenv(processEnv)
	if where == "" {
		return m.Run()
	}
	st, err := open(where, "process")
	if err == nil {
		err = hold(st, os.Args[len(os.Args)-1])
	}
	fmt.Println("error", err)
	return 1
}

// hold acquires name and announces itself, then watches its own clock: when
// it finds that it was stopped, it says whether its lease's context has ended
// and tries to write. It ends only by being killed.
func hold(st store.Store, name string) error {
	ctx := context.Background()
	go func() { _ = st.Announce(ctx, name+"-members/process", []byte("here")) }()
	l, err := st.Acquire(ctx, name)
	if err != nil {
		return err
	}
	e, err := l.Get(ctx, name+"-data/k")
	if err != nil {
		return err
	}
	last := time.Now()
	fmt.Println("held") // and may be stopped at once
	for {
		time.Sleep(5 * time.Millisecond)
		now := time.Now()
		if now.Sub(last) > 800*time.Millisecond {
			before := l.Context().Err()
			_, put := l.Put(ctx, e.Key, []byte("by the old holder"), e.Revision)
			_, create := l.Put(ctx, name+"-data/new", nil, "")
			fmt.Println("woke", before != nil, errors.Is(put, store.ErrLeaseLost), errors.Is(create, store.ErrLeaseLost), before, put, create)
			return nil
		}
		last = now
	}
}

// process is a running hold.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func (s *suite) start(t *testing.T, name string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$", name)
	cmd.Env = append(os.Environ(), processEnv+"="+s.Where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &process{cmd: cmd, lines: bufio.NewScanner(out)}
	p.says(t, "held")
	return p
}

// says reads the next line of the process and wants it to begin like this.
func (p *process) says(t *testing.T, wanted string) {
	t.Helper()
	stop := time.AfterFunc(patience, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) }) // it says where it is
	defer stop.Stop()
	if !p.lines.Scan() {
		t.Fatalf("the process said nothing, want %q", wanted)
	}
	if got := p.lines.Text(); !strings.HasPrefix(got, wanted) {
		t.Fatalf("the process said %q, want %q", got, wanted)
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// paused: a process that is stopped past its TTL loses the lease, and when it
// goes on it knows before it acts and cannot write.
func (s *suite) paused(t *testing.T) {
	b := s.open(t, "b")
	data := space(t) + "-data/k"
	mustPut(t, b, data, "1", "")
	p := s.start(t, space(t))
	p.signal(t, syscall.SIGSTOP)
	start := time.Now()
	next := mustAcquire(t, b, space(t))
	if took := time.Since(start); took > 2*s.TTL+slack {
		t.Errorf("the next holder came after %v", took)
	}
	e := mustGet(t, next, data)
	time.Sleep(s.TTL / 2) // so that it has been stopped for long enough to notice
	p.signal(t, syscall.SIGCONT)
	p.says(t, "woke true true true")
	mustPut(t, next, data, "by the new holder", e.Revision)
	if err := next.Context().Err(); err != nil {
		t.Errorf("the new holder's context: %v", err)
	}
	if err := gone(b, space(t)+"-data/new")(); err != nil {
		t.Error(err)
	}
	_ = next.Release(within(t, patience))
}

// killed: what a dead process held is free, and what it announced gone, within
// the TTL.
func (s *suite) killed(t *testing.T) {
	b := s.open(t, "b")
	mustPut(t, b, space(t)+"-data/k", "1", "")
	p := s.start(t, space(t))
	eventually(t, patience, "announced", there(b, space(t)+"-members/process", "here"))
	p.signal(t, syscall.SIGKILL)
	start := time.Now()
	next := mustAcquire(t, b, space(t))
	if took := time.Since(start); took > s.TTL+slack {
		t.Errorf("the next holder came after %v", took)
	}
	eventually(t, s.TTL+slack, "its announcement goes", gone(b, space(t)+"-members/process"))
	_ = next.Release(within(t, patience))
}
