package middleware

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// AccessLogOptions say where and how requests are logged.
type AccessLogOptions struct {
	FilePath string       // "": standard output
	Format   string       // "common" (also ""), or "json"
	Logger   *slog.Logger // told of trouble with the file; nil: nobody
}

// accessBuffer is how much text waits for the disk at most; lines beyond it
// are dropped and counted, so that a full or slow disk never holds a request.
const accessBuffer = 4 << 20

// Lines are written together: so long after the first of them, or as soon as
// there are so many bytes.
const (
	accessGather = 50 * time.Millisecond
	accessBatch  = 64 << 10
)

// AccessLog writes one line per request, from a goroutine of its own. All
// methods may be called from any goroutine.
type AccessLog struct {
	path    string
	json    bool
	logger  *slog.Logger
	count   atomic.Int64 // of requests
	dates   dates
	dropped atomic.Uint64 // lines that found no room or could not be written

	mu      sync.Mutex
	waiting []byte // whole lines
	lines   uint64 // in waiting
	closed  bool

	wake chan struct{} // there is something waiting, or it is over
	full chan struct{} // there is a batch waiting, or it is over
	done chan struct{} // the writer has ended

	fileMu sync.Mutex
	file   io.Writer
	closer io.Closer // nil: standard output stays open
}

// OpenAccessLog opens the file (made if absent, appended to) and starts the
// writer. Close ends it.
func OpenAccessLog(opts AccessLogOptions) (*AccessLog, error) {
	a := &AccessLog{
		path: opts.FilePath, logger: opts.Logger,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	switch opts.Format {
	case "", "common":
	case "json":
		a.json = true
	default:
		return nil, fmt.Errorf("open access log: format %q is unknown (common, json)", opts.Format)
	}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	if err := a.Reopen(); err != nil {
		return nil, err
	}
	go a.write()
	return a, nil
}

// Reopen opens the file anew under its name, after somebody has moved it away.
// If that fails the old file stays in use.
func (a *AccessLog) Reopen() error {
	var file io.Writer = os.Stdout
	var closer io.Closer
	if a.path != "" {
		f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return fmt.Errorf("open access log: %w", err)
		}
		file, closer = f, f
	}
	a.fileMu.Lock()
	old := a.closer
	a.file, a.closer = file, closer
	a.fileMu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

// Dropped counts the lines that were lost since the start.
func (a *AccessLog) Dropped() uint64 { return a.dropped.Load() }

// Close writes what waits, as long as ctx lasts, and closes the file. Requests
// that end later are not logged.
func (a *AccessLog) Close(ctx context.Context) error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	signal(a.wake)
	signal(a.full)
	select {
	case <-a.done:
	case <-ctx.Done():
		return fmt.Errorf("close access log: %w", ctx.Err())
	}
	a.fileMu.Lock()
	defer a.fileMu.Unlock()
	closer := a.closer
	if a.closer = nil; closer == nil {
		return nil
	}
	return closer.Close()
}

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// add hands a line to the writer, or drops it.
func (a *AccessLog) add(line []byte) {
	a.mu.Lock()
	if a.closed || len(a.waiting)+len(line) > accessBuffer {
		a.mu.Unlock()
		a.dropped.Add(1)
		return
	}
	before := len(a.waiting)
	a.waiting = append(a.waiting, line...)
	after := len(a.waiting)
	a.lines++
	a.mu.Unlock()
	if before == 0 {
		signal(a.wake)
	}
	if before < accessBatch && after >= accessBatch {
		signal(a.full)
	}
}

// write swaps buffers with the requests and writes, for ever.
func (a *AccessLog) write() {
	defer close(a.done)
	var spare []byte
	var lastWarn time.Time
	gather := time.NewTimer(accessGather)
	for range a.wake {
		gather.Reset(accessGather)
		select {
		case <-gather.C:
		case <-a.full:
		}
		a.mu.Lock()
		batch, lines, closed := a.waiting, a.lines, a.closed
		a.waiting, a.lines = spare[:0], 0
		a.mu.Unlock()
		if len(batch) > 0 {
			a.fileMu.Lock()
			_, err := a.file.Write(batch)
			a.fileMu.Unlock()
			if err != nil {
				a.dropped.Add(lines)
				if time.Since(lastWarn) > time.Minute {
					lastWarn = time.Now()
					a.logger.Warn("access log cannot be written", "error", err, "dropped", a.dropped.Load(), "next", "with the next requests")
				}
			}
		}
		spare = batch
		if cap(spare) > accessBuffer/4 {
			spare = nil // after a burst the memory goes back
		}
		if closed {
			return
		}
	}
}

// Handler wraps what answers the requests of one entry point. It sees the
// request as it came in, puts the Record into its context, and logs when next
// returns or panics.
func (a *AccessLog) Handler(entryPoint string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, entry: Entry{
			EntryPoint: entryPoint, Remote: r.RemoteAddr, Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host,
			Agent: r.Header.Get("User-Agent"), Referer: r.Header.Get("Referer"), TLS: r.TLS != nil, BodySize: r.ContentLength,
		}}
		x.entry.Start = time.Now()
		defer func() {
			x.entry.Took = time.Since(x.entry.Start)
			if x.entry.Status == 0 {
				x.entry.Status = http.StatusOK
				if cause := recover(); cause != nil {
					x.entry.Status = http.StatusInternalServerError
					a.Note(&x.entry)
					panic(cause)
				}
			}
			a.Note(&x.entry)
		}()
		next.ServeHTTP(x, r.WithContext(WithRecord(r.Context(), &x.entry.Record)))
	})
}

// Note logs a request that is over. It keeps nothing of e.
func (a *AccessLog) Note(e *Entry) {
	number := a.count.Add(1)
	line := lines.Get().(*[]byte)
	if a.json {
		*line = appendJSON((*line)[:0], e, number)
	} else {
		*line = appendCommon((*line)[:0], e, number, &a.dates)
	}
	a.add(*line)
	if cap(*line) <= 4<<10 {
		lines.Put(line)
	}
}

// lines are buffers for one line each.
var lines = sync.Pool{New: func() any { return new([]byte) }}

// exchange is one request under way.
type exchange struct {
	http.ResponseWriter
	entry Entry
}

// WriteHeader notes the final status.
func (x *exchange) WriteHeader(status int) {
	if x.entry.Status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.entry.Status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (x *exchange) Write(b []byte) (int, error) {
	if x.entry.Status == 0 {
		x.entry.Status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(b)
	x.entry.Size += int64(n)
	return n, err
}

// ReadFrom keeps the fast path of the writer below.
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	if x.entry.Status == 0 {
		x.entry.Status = http.StatusOK
	}
	n, err := io.Copy(x.ResponseWriter, src)
	x.entry.Size += n
	return n, err
}

// FlushError sends what is there.
func (x *exchange) FlushError() error {
	if x.entry.Status == 0 {
		x.entry.Status = http.StatusOK
	}
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Flush is FlushError for callers of the older interface.
func (x *exchange) Flush() { x.FlushError() }

// Hijack hands the connection over: an upgrade, as far as the log knows.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if x.entry.Status == 0 {
		x.entry.Status = http.StatusSwitchingProtocols
	}
	return http.NewResponseController(x.ResponseWriter).Hijack()
}

// Unwrap serves http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }
