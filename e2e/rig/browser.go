package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Page is what a real browser made of a page once its scripts had run for
// some seconds of the browser's own time.
type Page struct {
	DOM    string // the document as HTML
	Errors string // what the page's console holds of errors, one a line
}

// Browse opens the URL in Chromium without a window and gives the page. It
// takes seconds; dir gets the browser's profile.
func Browse(ctx context.Context, dir, url string) (Page, error) {
	path, env, err := chromium()
	if err != nil {
		return Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(dir, "chromium"), "--enable-logging=stderr", "--v=0",
		"--virtual-time-budget=5000", "--dump-dom", url)
	cmd.Env = append(os.Environ(), env...)
	var messages strings.Builder
	cmd.Stderr = &messages
	dom, err := cmd.Output()
	if err != nil {
		return Page{}, fmt.Errorf("open %s in %s: %w: %s", url, path, err, messages.String())
	}
	page := Page{DOM: string(dom)}
	for line := range strings.Lines(messages.String()) {
		if strings.Contains(line, ":CONSOLE") && (strings.Contains(line, "rror") || strings.Contains(line, "refused")) {
			page.Errors += line
		}
	}
	return page, nil
}

// chromium gives the system's, or the one e2e/tools/fetch unpacked with the
// libraries it needs.
func chromium() (path string, env []string, err error) {
	if path, err = exec.LookPath("chromium"); err == nil {
		return path, nil, nil
	}
	root := filepath.Join(Root(), ".cache/debian/browser")
	path = filepath.Join(root, "usr/lib/chromium/chromium")
	if _, err = os.Stat(path); err != nil {
		return "", nil, errors.New("find chromium: neither in PATH nor in .cache/debian/browser; `make tools` gets it")
	}
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		dirs = append(dirs, found...)
	}
	return path, []string{"LD_LIBRARY_PATH=" + strings.Join(dirs, ":"), "FONTCONFIG_PATH=" + filepath.Join(root, "etc/fonts")}, nil
}
