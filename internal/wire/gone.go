package wire

import "golang.org/x/sys/unix"

// sysGone: the other side has closed or reset, whatever is still to be read.
func sysGone(fd uintptr) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(set, 0)
	return err == nil && n > 0 && set[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
