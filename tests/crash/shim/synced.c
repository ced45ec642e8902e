/*
 * Keeps a copy of a directory that holds only what was synced: what is left of it after a power failure.
 *
 * Preload it (LD_PRELOAD) into a process that writes below CRASH_DATA. It keeps the copy in CRASH_SHADOW, on the same
 * file system:
 *
 *   files/INODE        the content of a file when it was last synced
 *   folders/INODE/     the names in a folder when it was last synced: a file is a hard link to its content, a folder is a
 *                      symbolic link to its inode number
 *   complete           exists once all that was there at the start is copied; only then the process goes on
 *
 * Writes are followed by the functions that write, and copied at the next sync of the file. Names need no functions: when
 * a folder is synced its names are read. A file that is synced keeps its name, too, which POSIX leaves open and ext4, XFS,
 * Btrfs and F2FS do: the storage engine relies on it for its blob files. What exists at the start counts as synced. Not followed, because the proxy does
 * not use them below its data directory: mapped files, copy_file_range, sendfile, splice.
 *
 * The functions make system calls directly and so never call each other.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct range {
    off_t from, to;
};

/* A file below the data directory, with the ranges that were written since its last sync. */
struct file {
    ino_t inode;
    struct range *ranges;
    size_t count, room;
    struct file *next;
};

#define BUCKETS 4096
static struct file *files[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *data, *shadow;

static void give_up(const char *what) {
    fprintf(stderr, "synced.c: %s: %s\n", what, strerror(errno));
    abort();
}

static int sys_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void content_path(char *path, ino_t inode) {
    snprintf(path, PATH_MAX, "%s/files/%lu", shadow, (unsigned long)inode);
}

static void folder_path(char *path, ino_t inode) {
    snprintf(path, PATH_MAX, "%s/folders/%lu", shadow, (unsigned long)inode);
}

static struct file *find(ino_t inode) {
    struct file *file = files[inode % BUCKETS];
    while (file && file->inode != inode) file = file->next;
    return file;
}

/* The lock is held. */
static struct file *follow(ino_t inode) {
    struct file *file = find(inode);
    if (!file) {
        file = calloc(1, sizeof *file);
        if (!file) give_up("memory");
        file->inode = inode;
        file->next = files[inode % BUCKETS];
        files[inode % BUCKETS] = file;
    }
    return file;
}

/* The lock is held. */
static void add_range(struct file *file, off_t from, off_t to) {
    if (from >= to) return;
    if (file->count > 0) {
        struct range *last = &file->ranges[file->count - 1];
        if (from <= last->to && to >= last->from) {
            if (from < last->from) last->from = from;
            if (to > last->to) last->to = to;
            return;
        }
    }
    if (file->count == file->room) {
        file->room = file->room ? 2 * file->room : 8;
        file->ranges = realloc(file->ranges, file->room * sizeof *file->ranges);
        if (!file->ranges) give_up("memory");
    }
    file->ranges[file->count++] = (struct range){from, to};
}

/* Whether the descriptor is of something below the data directory, whose path is then written to `path`. */
static int path_of_ours(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (!data || length < 0) return 0;
    path[length] = 0;
    size_t root = strlen(data);
    return strncmp(path, data, root) == 0 && (path[root] == '/' || path[root] == 0);
}

static int is_ours(int fd) {
    char path[PATH_MAX];
    return path_of_ours(fd, path);
}

static void written(int fd, off_t from, ssize_t length) {
    struct stat status;
    if (!data || length <= 0) return;
    int error = errno;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        pthread_mutex_lock(&lock);
        struct file *file = find(status.st_ino);
        if (file) {
            if (from < 0) from = lseek(fd, 0, SEEK_CUR) - length;
            add_range(file, from, from + length);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
}

static void copy_range(int from, int to, struct range range) {
    static char buffer[1 << 16];
    while (range.from < range.to) {
        size_t wanted = (size_t)(range.to - range.from);
        if (wanted > sizeof buffer) wanted = sizeof buffer;
        ssize_t read = pread(from, buffer, wanted, range.from);
        if (read < 0) give_up("reading a file");
        /* The rest was cut off. */
        if (read == 0) break;
        if (syscall(SYS_pwrite64, to, buffer, read, range.from) != read) give_up("copying a file");
        range.from += read;
    }
}

/* The lock is held. `from` may be open for writing only. */
static void copy_content(ino_t inode, int from, struct range *ranges, size_t count) {
    char path[PATH_MAX], again[64];
    struct stat status;
    snprintf(again, sizeof again, "/proc/self/fd/%d", from);
    int source = sys_open(again, O_RDONLY, 0);
    content_path(path, inode);
    int copy = sys_open(path, O_RDWR | O_CREAT, 0600);
    if (source < 0 || copy < 0 || fstat(source, &status) != 0) give_up(path);
    for (size_t at = 0; at < count; at++) copy_range(source, copy, ranges[at]);
    if (syscall(SYS_ftruncate, copy, status.st_size) != 0) give_up(path);
    close(source);
    close(copy);
}

static void file_synced(int fd, ino_t inode) {
    struct file *file = find(inode);
    if (!file) return;
    copy_content(inode, fd, file->ranges, file->count);
    file->count = 0;
}

static void copy_whole_file(const char *path, ino_t inode) {
    int fd = sys_open(path, O_RDONLY, 0);
    if (fd < 0) give_up(path);
    off_t end = 0, from;
    struct file *file = follow(inode);
    while ((from = lseek(fd, end, SEEK_DATA)) >= 0) {
        end = lseek(fd, from, SEEK_HOLE);
        add_range(file, from, end);
    }
    file_synced(fd, inode);
    close(fd);
}

/* Makes `name` refer to what it refers to in the folder at `path` now. */
static void name_synced(const char *path, ino_t folder, const char *name) {
    char real[PATH_MAX + 256], link_path[PATH_MAX + 256], fresh[PATH_MAX], target[PATH_MAX];
    struct stat status, linked, content;
    snprintf(real, sizeof real, "%s/%s", path, name);
    if (lstat(real, &status) != 0) return;
    folder_path(fresh, folder);
    snprintf(link_path, sizeof link_path, "%s/%s", fresh, name);
    snprintf(fresh, sizeof fresh, "%s/fresh", shadow);
    if (S_ISDIR(status.st_mode)) {
        folder_path(target, status.st_ino);
        mkdir(target, 0700);
        snprintf(target, sizeof target, "%lu", (unsigned long)status.st_ino);
        if (symlink(target, fresh) != 0) give_up(fresh);
    } else if (S_ISREG(status.st_mode)) {
        content_path(target, status.st_ino);
        int made = sys_open(target, O_RDWR | O_CREAT, 0600);
        if (made < 0 || fstat(made, &content) != 0) give_up(target);
        close(made);
        if (lstat(link_path, &linked) == 0 && linked.st_ino == content.st_ino) return;
        if (link(target, fresh) != 0) give_up(fresh);
    } else {
        return;
    }
    if (rename(fresh, link_path) != 0) give_up(link_path);
    unlink(fresh);
}

/* Keeps the name of the file at `path`, which was synced. */
static void own_name_synced(char *path) {
    char copy[PATH_MAX];
    struct stat status;
    char *name = strrchr(path, '/');
    if (!name) return;
    *name++ = 0;
    if (stat(path, &status) != 0) return;
    folder_path(copy, status.st_ino);
    mkdir(copy, 0700);
    name_synced(path, status.st_ino, name);
}

static int is_entry(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* The lock is held. Names are added before others are removed: a renamed file never disappears. */
static void folder_synced(const char *path, ino_t inode) {
    char copy[PATH_MAX], real[PATH_MAX + 256];
    struct stat status;
    struct dirent *entry;
    DIR *folder = opendir(path);
    if (!folder) give_up(path);
    folder_path(copy, inode);
    mkdir(copy, 0700);
    while ((entry = readdir(folder)))
        if (is_entry(entry)) name_synced(path, inode, entry->d_name);
    closedir(folder);
    folder = opendir(copy);
    if (!folder) give_up(copy);
    while ((entry = readdir(folder))) {
        snprintf(real, sizeof real, "%s/%s", path, entry->d_name);
        if (is_entry(entry) && lstat(real, &status) != 0) unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

static void synced(int fd) {
    char path[PATH_MAX];
    struct stat status;
    if (!path_of_ours(fd, path) || fstat(fd, &status) != 0) return;
    pthread_mutex_lock(&lock);
    if (S_ISREG(status.st_mode)) {
        file_synced(fd, status.st_ino);
        own_name_synced(path);
    } else if (S_ISDIR(status.st_mode)) {
        folder_synced(path, status.st_ino);
    }
    pthread_mutex_unlock(&lock);
}

static void copy_all(const char *path) {
    char inner[PATH_MAX];
    struct stat status;
    struct dirent *entry;
    if (stat(path, &status) != 0) give_up(path);
    DIR *folder = opendir(path);
    if (!folder) give_up(path);
    while ((entry = readdir(folder))) {
        struct stat of;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (!is_entry(entry) || lstat(inner, &of) != 0) continue;
        if (S_ISDIR(of.st_mode)) copy_all(inner);
        if (S_ISREG(of.st_mode)) copy_whole_file(inner, of.st_ino);
    }
    closedir(folder);
    folder_synced(path, status.st_ino);
}

__attribute__((constructor)) static void begin(void) {
    char path[PATH_MAX];
    const char *root = getenv("CRASH_DATA");
    shadow = getenv("CRASH_SHADOW");
    if (!root || !shadow) return;
    snprintf(path, sizeof path, "%s/files", shadow);
    if (mkdir(path, 0700) != 0) give_up(path);
    snprintf(path, sizeof path, "%s/folders", shadow);
    if (mkdir(path, 0700) != 0) give_up(path);
    copy_all(root);
    snprintf(path, sizeof path, "%s/complete", shadow);
    int complete = sys_open(path, O_WRONLY | O_CREAT, 0600);
    if (complete < 0) give_up(path);
    close(complete);
    data = root;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    struct stat before;
    int existed = fstatat(folder, path, &before, 0) == 0;
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    int error = errno;
    struct stat status;
    if (fd >= 0 && data && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && is_ours(fd)) {
        pthread_mutex_lock(&lock);
        struct file *file = follow(status.st_ino);
        if (!existed && (flags & O_CREAT)) {
            /* The number may have been that of a file that is gone. */
            char content[PATH_MAX];
            content_path(content, status.st_ino);
            unlink(content);
            file->count = 0;
        } else if (existed && (flags & O_TRUNC)) {
            add_range(file, 0, before.st_size);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return fd;
}

static int truncated(int fd, off_t length) {
    struct stat status;
    int known = fstat(fd, &status) == 0;
    int result = (int)syscall(SYS_ftruncate, fd, length);
    int error = errno;
    if (result == 0 && known && data && status.st_size > length) {
        pthread_mutex_lock(&lock);
        struct file *file = find(status.st_ino);
        if (file) add_range(file, length, status.st_size);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return result;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int fd, const void *bytes, size_t length) {
    ssize_t result = syscall(SYS_write, fd, bytes, length);
    written(fd, -1, result);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t result = syscall(SYS_writev, fd, parts, count);
    written(fd, -1, result);
    return result;
}

static ssize_t written_at(int fd, const void *bytes, size_t length, off_t from) {
    ssize_t result = syscall(SYS_pwrite64, fd, bytes, length, from);
    written(fd, from, result);
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t from) { return written_at(fd, bytes, length, from); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t from) { return written_at(fd, bytes, length, from); }

static ssize_t written_parts_at(int fd, const struct iovec *parts, int count, off_t from) {
    ssize_t result = syscall(SYS_pwritev, fd, parts, count, from, 0);
    written(fd, from, result);
    return result;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t from) { return written_parts_at(fd, parts, count, from); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t from) { return written_parts_at(fd, parts, count, from); }

int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off_t length) { return truncated(fd, length); }

/* What was written before the call is on the disk when the call returns. */
int fsync(int fd) {
    synced(fd);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    synced(fd);
    return (int)syscall(SYS_fdatasync, fd);
}
