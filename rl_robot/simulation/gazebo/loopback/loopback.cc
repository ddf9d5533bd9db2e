// Preloaded into gzserver: keeps its sockets on this machine.
//
// Gazebo's transport knows no access rights, and GAZEBO_IP says only which address it announces:
// it listens on every interface whatever that says. Here an IPv4 socket that asks for every
// interface gets the loopback one.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

extern "C" int bind(int socket, const sockaddr* address, socklen_t length) noexcept {
  using Bind = int (*)(int, const sockaddr*, socklen_t);
  static const Bind system_bind = reinterpret_cast<Bind>(dlsym(RTLD_NEXT, "bind"));
  if (address != nullptr && address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in local;
    std::memcpy(&local, address, sizeof local);
    if (local.sin_addr.s_addr == htonl(INADDR_ANY)) {
      local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      return system_bind(socket, reinterpret_cast<const sockaddr*>(&local), sizeof local);
    }
  }
  return system_bind(socket, address, length);
}
