package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// podEnv marks a process that is to become a pod's container; its third file
// is where it reads its container from.
const podEnv = "GATEHOUSE_RIG_POD"

// container is what a process becomes.
type container struct {
	Hostname          string
	IP                string
	Root              string            // an empty folder
	Files             map[string]string // in the container -> on the machine
	Mounts            []mount
	ReadOnly          bool // the root file system
	Args              []string
	Env               []string
	Dir               string
	UID, GID          int
	Confined          bool // no new privileges
	Bounded           bool // capabilities are those of Keep only
	Keep              []string
	Unprivilegedports string // sysctl
}

type mount struct {
	From, To string
	ReadOnly bool
}

// beginPod makes this process the container it is told; it returns only if it
// cannot. It runs in namespaces of its own.
func beginPod() error {
	runtime.LockOSThread()
	pipe := os.NewFile(3, "pod")
	text, err := io.ReadAll(pipe) // ends when the network is there
	if err != nil {
		return err
	}
	_ = pipe.Close()
	var c container
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read what to become: %w", err)
	}
	if err := c.network(); err != nil {
		return err
	}
	if err := c.files(); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	if err := c.become(); err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", c.Args[0], unix.Exec(c.Args[0], c.Args, c.Env))
}

func (c *container) network() error {
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return err
	}
	if c.Unprivilegedports != "" {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte(c.Unprivilegedports), 0o600); err != nil {
			return err
		}
	}
	return ip("link set lo up", "addr add "+c.IP+"/32 dev eth0", "link set eth0 up",
		"route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1")
}

// files makes the root: a tmpfs with the image's files and the volumes bound
// into it.
func (c *container) files() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	mounts := []mount{{From: "/dev", To: "/dev"}}
	for to, from := range c.Files {
		mounts = append(mounts, mount{From: from, To: to, ReadOnly: c.ReadOnly})
	}
	for _, m := range append(mounts, c.Mounts...) {
		if err := c.bind(m); err != nil {
			return fmt.Errorf("mount %s: %w", m.To, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"/tmp": 0o1777, "/proc": 0o555} {
		if err := os.MkdirAll(c.Root+name, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(c.Root+name, mode); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", c.Root+"/proc", "proc", 0, ""); err != nil {
		return err
	}
	if c.ReadOnly {
		if err := unix.Mount("", c.Root, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := unix.Chroot(c.Root); err != nil {
		return err
	}
	return unix.Chdir(c.Dir)
}

func (c *container) bind(m mount) error {
	to := filepath.Join(c.Root, m.To)
	info, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		err = os.WriteFile(to, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.From, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	return unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// capabilities that a container may keep, by the names of manifests.
var capabilities = map[string]int{"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE}

// become gives up what the container has no right to.
func (c *container) become() error {
	if c.Bounded {
		keep := map[int]bool{}
		for _, name := range c.Keep {
			number, ok := capabilities[strings.TrimPrefix(name, "CAP_")]
			if !ok {
				return fmt.Errorf("capability %s: not known to the rig", name)
			}
			keep[number] = true
		}
		for number := range unix.CAP_LAST_CAP + 1 {
			if keep[number] {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("drop capability %d: %w", number, err)
			}
		}
	}
	if c.UID != 0 || c.GID != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(c.GID), syscall.Setuid(c.UID)); err != nil {
			return err
		}
	}
	if c.Confined {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	// Forgotten when the user changed.
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}
