package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"gatehouse/internal/config"
)

// logFile is the program's log: a file that can be opened anew after it was
// moved away (SIGUSR1), or the stream given.
type logFile struct {
	path string

	mu  sync.Mutex
	out io.Writer
}

func openLog(path string, fallback io.Writer) (*logFile, error) {
	l := &logFile{path: path, out: fallback}
	return l, l.Reopen()
}

// Reopen opens the file anew; without a file it does nothing.
func (l *logFile) Reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.out.(*os.File); ok && old != os.Stderr && old != os.Stdout {
		_ = old.Close()
	}
	l.out = f
	return nil
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// newLogger follows logLevel, debug and [traefikLog].
func newLogger(s *config.Static, fallback io.Writer) (*slog.Logger, *logFile, error) {
	path, format := "", ""
	if s.TraefikLog != nil {
		path, format = s.TraefikLog.FilePath, s.TraefikLog.Format
	}
	out, err := openLog(path, fallback)
	if err != nil {
		return nil, nil, err
	}
	o := &slog.HandlerOptions{Level: level(s)}
	if strings.EqualFold(format, "json") {
		return slog.New(slog.NewJSONHandler(out, o)), out, nil
	}
	return slog.New(slog.NewTextHandler(out, o)), out, nil
}

// level maps Traefik's names; fatal and panic are shown as errors are.
func level(s *config.Static) slog.Level {
	if s.Debug {
		return slog.LevelDebug
	}
	switch strings.ToLower(s.LogLevel) {
	case "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}
