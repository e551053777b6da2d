package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair gives our side of a connection, and the other.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	own, err := NewConn(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close(); other.Close() })
	return own, other.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestReadIdle(t *testing.T) {
	c, other := pair(t)
	c.ReadBy(Now() + int64(20*time.Millisecond))
	if b, err := c.ReadIdle(); b != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q, %v", b, err)
	}
	c.ReadBy(Now() + int64(5*time.Second)) // the timer has fired: it must not fire again
	go func() {
		time.Sleep(30 * time.Millisecond)
		io.WriteString(other, "hello") //nolint:errcheck // the test then fails
	}()
	b, err := c.ReadIdle()
	if string(b) != "hello" || cap(b) != SmallSize || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	Free(b)
	other.Close()
	if _, err := c.ReadIdle(); err != io.EOF {
		t.Fatal(err)
	}
}

// A deadline that was meant for an earlier read must not end a later one.
// paced counts what it is told.
type paced struct {
	rests, resumes int
	stop           error
}

func (p *paced) Rest()         { p.rests++ }
func (p *paced) Resume() error { p.resumes++; return p.stop }

// TestPace: a read that waits says so, one that finds something does not; each
// asks before it goes on.
func TestPace(t *testing.T) {
	c, other := pair(t)
	p := new(paced)
	c.Pace(p)
	b := make([]byte, 1)
	c.ReadBy(Now() + int64(time.Millisecond))
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || p.rests == 0 || p.resumes != 0 {
		t.Errorf("nothing came: %v, %+v", err, p)
	}
	c.ReadBy(0)
	send(t, other, "ab")
	if _, err := c.Read(b); err != nil || p.resumes != 1 {
		t.Errorf("something came: %v, %+v", err, p)
	}
	rested := p.rests
	if _, err := c.Read(b); err != nil || p.rests != rested || p.resumes != 2 {
		t.Errorf("it was there: %v, %+v", err, p)
	}
	p.stop = errors.New("no")
	send(t, other, "c")
	if n, err := c.Read(b); n != 0 || !errors.Is(err, p.stop) {
		t.Errorf("%d, %v", n, err)
	}
	c.Pace(nil)
	send(t, other, "d")
	if _, err := c.Read(b); err != nil || p.resumes != 3 {
		t.Errorf("nobody is told any more: %v, %+v", err, p)
	}
}

// TestLookAndFarewell: what is looked at stays; last bytes come before the end.
func TestLookAndFarewell(t *testing.T) {
	c, other := pair(t)
	send(t, other, "hello")
	for range 2 {
		b, err := c.Look()
		if err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		Free(b)
	}
	b := make([]byte, 8)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	c.Farewell([]byte("bye"))
	if got, err := io.ReadAll(other); err != nil || string(got) != "bye" || !c.Closed() {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLazyDeadline(t *testing.T) {
	c, other := pair(t)
	buf := make([]byte, 10)
	c.ReadBy(Now() + int64(30*time.Millisecond))
	go func() {
		send(t, other, "one")
		time.Sleep(60 * time.Millisecond)
		send(t, other, "two")
	}()
	if n, err := c.Read(buf); string(buf[:n]) != "one" {
		t.Fatal(err)
	}
	c.ReadBy(Now() + int64(5*time.Second))
	if n, err := c.Read(buf); string(buf[:n]) != "two" {
		t.Fatal(err)
	}
}

func TestAsk(t *testing.T) {
	c, other := pair(t)
	go func() {
		buf := make([]byte, 100)
		n, _ := other.Read(buf)
		send(t, other, "re: "+string(buf[:n]))
	}()
	c.ReadBy(Now() + int64(5*time.Second))
	b, sent, err := c.Ask([]byte("ping"))
	if string(b) != "re: ping" || sent != 4 || err != nil {
		t.Fatalf("%q, %d, %v", b, sent, err)
	}
	Free(b)
	send(t, other, "nobody asked")
	time.Sleep(10 * time.Millisecond)
	if b, sent, err := c.Ask([]byte("ping")); b != nil || sent != 0 || err != ErrStray {
		t.Fatalf("%q, %d, %v", b, sent, err)
	}
	other.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := other.Read(make([]byte, 1)); n > 0 {
		t.Fatal("something was written all the same", err)
	}
}

func TestEach(t *testing.T) {
	c, other := pair(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 100<<10/16)
	go func() {
		send(t, other, "one")
		time.Sleep(20 * time.Millisecond)
		send(t, other, string(big))
		other.CloseWrite()
	}()
	var got []byte
	pieces := 0
	c.ReadBy(Now() + int64(5*time.Millisecond)) // left behind: Each has no deadline
	if err := c.Each(func(piece []byte) error {
		got = append(got, piece...)
		pieces++
		return nil
	}); err != io.EOF {
		t.Fatal(err)
	}
	if want := "one" + string(big); string(got) != want || pieces < 2 {
		t.Errorf("%d bytes in %d pieces", len(got), pieces)
	}
	c2, other2 := pair(t)
	send(t, other2, "x")
	enough := errors.New("enough")
	if err := c2.Each(func([]byte) error { return enough }); err != enough {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- c2.Each(func([]byte) error { return nil }) }()
	time.Sleep(10 * time.Millisecond)
	c2.Sock.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestSplice(t *testing.T) {
	from, source := pair(t)
	to, drain := pair(t)
	to.WriteBy(0, 50*time.Millisecond)
	send(t, source, "hello, and more")
	n, err := to.Splice(from, 5)
	buf := make([]byte, 100)
	m, _ := drain.Read(buf)
	if n != 5 || err != nil || string(buf[:m]) != "hello" {
		t.Fatalf("%d, %v, %q", n, err, buf[:m])
	}
	// A silent giver is not the taker's fault, and costs nothing.
	rest, _ := to.Splice(from, 10)
	from.ReadBy(Now() + int64(20*time.Millisecond))
	if n, err := to.Splice(from, 10); rest != 10 || n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrTaker) {
		t.Fatal(rest, n, err)
	}
	from.ReadBy(0)
	// A taker that takes nothing is.
	go func(source net.Conn) {
		for {
			if _, err := source.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}(source)
	for err = nil; err == nil; {
		_, err = to.Splice(from, 1<<20)
	}
	if !errors.Is(err, ErrTaker) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	source.Close()
	// A taker that has gone is, too.
	from, source = pair(t)
	to, drain = pair(t)
	drain.Close()
	time.Sleep(10 * time.Millisecond)
	send(t, source, "hello")
	for err, n = nil, 1; err == nil && n > 0; {
		n, err = to.Splice(from, 5)
		source.Write([]byte("more")) //nolint:errcheck // it is about the taker
	}
	if !errors.Is(err, ErrTaker) {
		t.Fatal(err)
	}
	// A giver that ends.
	from, source = pair(t)
	to, _ = pair(t)
	source.Close()
	if _, err := to.Splice(from, 5); err != io.EOF {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	c, other := pair(t)
	gone := make(chan bool, 1)
	stop := c.Watch(func() { gone <- true })
	stop()
	select {
	case <-gone:
		t.Fatal("gone although it stays")
	default:
	}
	send(t, other, "x") // what comes is no end, and stays to be read
	stop = c.Watch(func() { gone <- true })
	time.Sleep(10 * time.Millisecond)
	stop()
	if b, err := c.ReadIdle(); string(b) != "x" {
		t.Fatal(err)
	}
	stop = c.Watch(func() { gone <- true })
	other.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("not gone")
	}
	stop()
}

// TestInterrupt: no moment is too early or too late to end another's read.
func TestInterrupt(t *testing.T) {
	c, _ := pair(t)
	for i := range 10_000 {
		over := make(chan error, 1)
		var begun atomic.Bool
		go func() {
			c.ReadBy(Now() + int64(time.Minute))
			begun.Store(true)
			_, err := c.Read(make([]byte, 1))
			over <- err
		}()
		for !begun.Load() {
			runtime.Gosched()
		}
		for end := time.Now().Add(time.Duration(i%60) * 100); time.Now().Before(end); {
		}
		c.Interrupt()
		select {
		case err := <-over:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("read %d goes on", i)
		}
		c.Resume()
	}
}
