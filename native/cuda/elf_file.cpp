#include "cuda/elf_file.h"

#include <elf.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <vector>

namespace cudnn_lstm::cuda {
namespace {

#if defined(__aarch64__)
constexpr int kMachine = EM_AARCH64;
#else
constexpr int kMachine = EM_X86_64;
#endif

class ElfFile {
 public:
  explicit ElfFile(const std::string& path) : file_(path, std::ios::binary) {
    if (!file_) return;
    file_.seekg(0, std::ios::end);
    size_ = static_cast<std::uint64_t>(file_.tellg());
  }
  bool open() const { return file_.is_open() && static_cast<bool>(file_); }
  std::uint64_t size() const { return size_; }
  bool holds(std::uint64_t offset, std::uint64_t bytes) const { return offset <= size_ && bytes <= size_ - offset; }
  bool read(std::uint64_t offset, void* out, std::size_t bytes) {
    if (!holds(offset, bytes)) return false;
    file_.seekg(static_cast<std::streamoff>(offset));
    return static_cast<bool>(file_.read(static_cast<char*>(out), static_cast<std::streamsize>(bytes)));
  }

 private:
  std::ifstream file_;
  std::uint64_t size_ = 0;
};

// The file offset of a virtual address, or -1.
std::int64_t file_offset(const std::vector<Elf64_Phdr>& segments, std::uint64_t address) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
      return static_cast<std::int64_t>(address - segment.p_vaddr + segment.p_offset);
    }
  }
  return -1;
}

std::string read_soname(ElfFile& file, const std::vector<Elf64_Phdr>& segments) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_DYNAMIC) continue;
    std::uint64_t names = 0, soname = 0;
    bool named = false;
    const std::uint64_t entries = std::min<std::uint64_t>(segment.p_filesz / sizeof(Elf64_Dyn), 4096);
    for (std::uint64_t i = 0; i < entries; ++i) {
      Elf64_Dyn entry;
      if (!file.read(segment.p_offset + i * sizeof entry, &entry, sizeof entry) || entry.d_tag == DT_NULL) break;
      if (entry.d_tag == DT_STRTAB) names = entry.d_un.d_ptr;
      if (entry.d_tag == DT_SONAME) {
        soname = entry.d_un.d_val;
        named = true;
      }
    }
    const std::int64_t table = file_offset(segments, names);
    if (!named || table < 0) return {};
    char name[256] = {};
    const std::uint64_t at = static_cast<std::uint64_t>(table) + soname;
    if (at >= file.size()) return {};
    file.read(at, name, static_cast<std::size_t>(std::min<std::uint64_t>(sizeof name - 1, file.size() - at)));
    return name;
  }
  return {};
}

}  // namespace

std::string shared_library_fault(const std::string& path, const std::string& soname) {
  ElfFile file(path);
  if (!file.open()) return std::string("cannot be read: ") + std::strerror(errno);
  Elf64_Ehdr header;
  if (!file.read(0, &header, sizeof header)) return "truncated (" + std::to_string(file.size()) + " bytes)";
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "not a shared library";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine) return "built for another machine";
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > 1024) return "damaged header";
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  if (!file.read(header.e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr))) return "truncated";
  for (const Elf64_Phdr& segment : segments) {
    if (!file.holds(segment.p_offset, segment.p_filesz)) {
      return "truncated (" + std::to_string(file.size()) + " bytes of at least " +
             std::to_string(segment.p_offset + segment.p_filesz) + ")";
    }
  }
  if (header.e_shnum != 0 && !file.holds(header.e_shoff, std::uint64_t{header.e_shentsize} * header.e_shnum)) {
    return "truncated (its last bytes are missing)";
  }
  if (!soname.empty()) {
    const std::string found = read_soname(file, segments);
    if (found != soname) return "is " + (found.empty() ? "a library without a name" : found) + ", not " + soname;
  }
  return {};
}

}  // namespace cudnn_lstm::cuda
