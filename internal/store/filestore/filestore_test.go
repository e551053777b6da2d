package filestore

import (
	"bufio"
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/filewatch"
	"gatehouse/internal/store"
	"gatehouse/internal/store/storetest"
)

const ttl = 3 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		fmt.Println("error", writeForEver(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(stopperEnv); dir != "" {
		if err := stopInside(dir); err != nil {
			fmt.Println("error", err)
		}
		os.Exit(1)
	}
	code := storetest.Main(m, func(where, replica string) (store.Store, error) {
		return Open(Options{Dir: where, TTL: ttl, Replica: replica})
	})
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t testing.TB, dir, replica string) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, TTL: ttl, Replica: replica})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConforms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	storetest.Run(t, func(t *testing.T, replica string) store.Store { return open(t, dir, replica) },
		storetest.Options{TTL: ttl, Where: dir})
}

const writerEnv = "GATEHOUSE_FILESTORE_WRITER"

// pattern is a value that shows whether it is whole.
func pattern(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d\n", i), 1+i%5000)
}

// writeForEver writes two keys in turn: each value whole, whoever dies.
func writeForEver(dir string) error {
	s, err := Open(Options{Dir: dir, TTL: ttl})
	if err != nil {
		return err
	}
	fmt.Println("writing")
	for i := rand.IntN(10000); ; i++ {
		key := fmt.Sprintf("state/%d", i%2)
		e, err := s.Get(context.Background(), key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if _, err := s.Put(context.Background(), key, pattern(i), e.Revision); err != nil {
			return err
		}
	}
}

// Killed at any moment, 200 times, a writer leaves whole files and nothing
// in anybody's way.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, "reader")
	revisions, seen := map[store.Revision]bool{}, map[string]bool{}
	for range 200 {
		cmd := exec.Command(self, "-test.run=^$")
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line := bufio.NewScanner(out); !line.Scan() || line.Text() != "writing" {
			t.Fatalf("the writer said %q", line.Text())
		}
		time.Sleep(rand.N(15 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for _, key := range []string{"state/0", "state/1"} {
			e, err := s.Get(t.Context(), key)
			if errors.Is(err, store.ErrNotFound) && !seen[key] {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(e.Value), "\n")
			i, err := strconv.Atoi(line)
			if err != nil || !bytes.Equal(e.Value, pattern(i)) {
				t.Fatalf("%s is not whole: %d bytes beginning with %.20q", key, len(e.Value), e.Value)
			}
			revisions[e.Revision], seen[key] = true, true
		}
	}
	if len(revisions) < 50 {
		t.Errorf("only %d states seen: the writers were killed before they wrote", len(revisions))
	}
	e, err := s.Get(t.Context(), "state/0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "state/0", nil, e.Revision); err != nil {
		t.Errorf("put after the deaths: %v", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	s := open(t, dir, "a")
	if _, err := s.Put(t.Context(), "certificates/local/www.example.com", []byte("secret"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Acquire(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "certificates", "local", "www.example.com"))
	if err != nil || string(text) != "secret" {
		t.Errorf("a person reads %q, %v", text, err)
	}
}

// Edits by hand are seen, make new revisions, and an editor's own files are
// no keys.
func TestEditedByHand(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "a")
	rev, err := s.Put(t.Context(), "k", []byte("1"), "")
	if err != nil {
		t.Fatal(err)
	}
	step := 0
	ctx, cancel := context.WithTimeout(t.Context(), 3*lookEvery)
	defer cancel()
	for entries, err := range s.Watch(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if step++; step == 1 {
			for name, text := range map[string]string{"k": "2", ".k.swp": "x"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		if len(entries) != 1 || string(entries[0].Value) != "2" || entries[0].Revision == rev {
			t.Errorf("after the edit: %v", entries)
		}
		break
	}
	if step != 2 {
		t.Errorf("%d states", step)
	}
	if _, err := s.Put(t.Context(), "k", nil, rev); !errors.Is(err, store.ErrConflict) {
		t.Errorf("put over the edit: %v", err)
	}
}

// What another process changes is heard of as the system tells it, or by looking
// where it does not, and neither waits for the rare look that is made anyway.
func TestHeardOfOthers(t *testing.T) {
	for name, watches := range map[string]filewatch.Options{"told": {}, "looked at": {Most: -1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := open(t, dir, "a")
			b, err := Open(Options{Dir: dir, TTL: ttl, Replica: "b", Watches: watches})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			const rounds = 10
			var rev store.Revision
			step, began := 0, time.Now()
			for _, err := range b.Watch(t.Context(), "k") {
				if err != nil {
					t.Fatal(err)
				}
				if step++; step > rounds {
					break
				}
				if rev, err = a.Put(t.Context(), "k", []byte{byte(step)}, rev); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took > rounds*safetyEvery*6/10 {
				t.Errorf("%d changes, one after the other, were heard of after %v", rounds, took)
			}
		})
	}
}

// A lease entry no session knows, as a restored backup would hold, is in
// nobody's way.
func TestLeaseEntryLeftBehind(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "a")
	if _, err := s.Put(t.Context(), "leases/x", []byte("long dead"), ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), ttl)
	defer cancel()
	if _, err := s.Acquire(ctx, "x"); err != nil {
		t.Fatal(err)
	}
}

// What cannot be read is an error, not absent, and the watch goes on after it.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "a")
	path := filepath.Join(dir, "k")
	if err := os.Symlink("k", path); err != nil { // a loop: not readable for root either
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "k"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lookEvery)
	defer cancel()
	troubled := false
	for entries, err := range s.Watch(ctx, "") {
		if err != nil {
			troubled = true
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !troubled || len(entries) != 0 {
			t.Errorf("trouble told: %v, entries %v", troubled, entries)
		}
		return
	}
	t.Error("the watch did not come back")
}

// The clock set back does not bring a time back.
func TestTimesGrow(t *testing.T) {
	s := open(t, t.TempDir(), "a")
	ahead := time.Now().Add(time.Hour).UnixMicro()
	if err := s.guard.write(marks{given: ahead, stage: "x"}); err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		err := s.guarded(t.Context(), func(got turn) error {
			if got.stamp.UnixMicro() != ahead+1+i {
				t.Errorf("time %d after %d", got.stamp.UnixMicro(), ahead)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

const stopperEnv = "GATEHOUSE_FILESTORE_STOPPER"

// stopInside changes and deletes keys over old revisions, and stops itself
// when all checks have passed and only the change is left to do.
func stopInside(dir string) error {
	s, err := Open(Options{Dir: dir, TTL: ttl})
	if err != nil {
		return err
	}
	stage, err := s.ready()
	if err != nil {
		return err
	}
	temp, err := newFile(stage, []byte("stale"), true)
	if err != nil {
		return err
	}
	placed, removed := errors.New("not tried"), errors.New("not tried")
	err = s.guardedIn(context.Background(), stage, func(t turn) error {
		fmt.Println("inside")
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		_, placed = s.place(t, temp, s.path("k"))
		_, removed = s.remove(t, "l")
		return errors.Join(placed, removed)
	})
	fmt.Printf("refused %v %v %v %q\n", placed != nil, removed != nil, errors.Is(err, errStuck), err)
	e, err := s.Get(context.Background(), "k")
	if err != nil {
		return err
	}
	_, err = s.Put(context.Background(), "k", []byte("new"), e.Revision)
	fmt.Println("again", err == nil, err)
	return err
}

// A process stopped with the guard in hand does not keep the others waiting
// for ever, and cannot finish what it began; afterwards it is as good as new.
func TestStoppedWithGuard(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "a")
	for _, key := range []string{"k", "l"} {
		if _, err := s.Put(t.Context(), key, []byte("1"), ""); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), stopperEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	says := func(wanted string) {
		t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), wanted) {
			t.Fatalf("the process said %q, want %q", lines.Text(), wanted)
		}
	}
	says("inside")
	ctx, cancel := context.WithTimeout(t.Context(), 10*ttl)
	defer cancel()
	var others sync.WaitGroup
	for range 3 { // several break it at once
		other := open(t, dir, "other")
		others.Go(func() {
			if _, err := other.Put(ctx, "mine/"+crand.Text(), nil, ""); err != nil {
				t.Error(err)
			}
		})
	}
	start := time.Now()
	e, err := s.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "k", []byte("2"), e.Revision); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*ttl {
		t.Errorf("waited %v", took)
	}
	others.Wait()
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	says("refused true true true")
	says("again true")
	for key, value := range map[string]string{"k": "new", "l": "1"} {
		if e, err := s.Get(ctx, key); err != nil || string(e.Value) != value {
			t.Errorf("%s is %q, %v, want %q", key, e.Value, err, value)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir(), "a")
	var rev store.Revision
	var err error
	value := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if rev, err = s.Put(b.Context(), "certificates/local/k", value, rev); err != nil {
			b.Fatal(err)
		}
	}
}

// A look at a thousand keys that have not changed, as a watch does every 3 s.
func BenchmarkLookAtRest(b *testing.B) {
	s := open(b, b.TempDir(), "a")
	for i := range 1000 {
		path := s.path(fmt.Sprintf("certificates/%d", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	w := watch{store: s, prefix: "certificates"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.look(); err != nil {
			b.Fatal(err)
		}
	}
}
