"""What draws for EEVEE and Workbench: the GPU, or a program on the CPU that only looks like one.

Blender itself tells only after it has drawn (in the background, through 5.0). So the same is asked of EGL beforehand, by this file run as a
program in a process of its own: graphics drivers crash, and what they initialize stays.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

LIMIT_S = 30.0
#: Mesa's and others' renderers without hardware.
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "lavapipe", "software")

_EGL_DEFAULT_DISPLAY = 0
_EGL_PLATFORM_SURFACELESS_MESA = 0x31DD
_EGL_OPENGL_API = 0x30A2
_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT = 0x3033, 0x0001
_EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT = 0x3040, 0x0008
_EGL_WIDTH, _EGL_HEIGHT, _EGL_NONE = 0x3057, 0x3056, 0x3038
_GL_RENDERER = 0x1F01


def gl_renderer() -> str:
    """Name what OpenGL draws with, as the driver does. Returns: empty if that can't be told"""
    try:
        ran = subprocess.run([sys.executable, "-I", __file__], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip().splitlines()[-1] if ran.returncode == 0 and ran.stdout.strip() else ""


def is_software(renderer: str) -> bool:
    """Say whether a renderer is known to be a program. What can't be told is not."""
    return any(name in renderer.lower() for name in _SOFTWARE)


def blender_says_software() -> bool:
    """Say whether Blender has drawn with software. Returns: False, too, while it can't tell"""
    try:
        import gpu  # noqa: PLC0415 - there only inside Blender, and this file is also a program of its own

        return str(gpu.platform.device_type_get()) == "SOFTWARE" or is_software(str(gpu.platform.renderer_get()))
    except (ImportError, SystemError, AttributeError):
        return False


def _renderer_of_egl() -> str:
    """Make an OpenGL context, and ask it. Errors: OSError, AttributeError, RuntimeError - there is none"""
    egl = ctypes.CDLL("libEGL.so.1")
    for name in ("eglGetDisplay", "eglCreatePbufferSurface", "eglCreateContext", "eglGetProcAddress"):
        getattr(egl, name).restype = ctypes.c_void_p
    display = _display(egl)
    config, count = ctypes.c_void_p(), ctypes.c_int()
    wanted = (ctypes.c_int * 5)(_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT, _EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT, _EGL_NONE)
    size = (ctypes.c_int * 5)(_EGL_WIDTH, 1, _EGL_HEIGHT, 1, _EGL_NONE)
    egl.eglBindAPI(_EGL_OPENGL_API)
    if not egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count)) or not count.value:
        raise RuntimeError("EGL has no configuration for OpenGL")
    surface = ctypes.c_void_p(egl.eglCreatePbufferSurface(display, config, size))
    context = ctypes.c_void_p(egl.eglCreateContext(display, config, None, None))
    if not egl.eglMakeCurrent(display, surface, surface, context):
        raise RuntimeError("EGL makes no OpenGL context")
    get_string = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(egl.eglGetProcAddress(b"glGetString"))
    return (get_string(_GL_RENDERER) or b"").decode(errors="replace")


def _display(egl: ctypes.CDLL) -> ctypes.c_void_p:
    """The display that Blender draws on without a screen: the default one, else Mesa's without a surface.

    Source:  intern/ghost/intern/GHOST_ContextEGL.cc of Blender 4.2 to 5.0
    """
    default = ctypes.c_void_p(egl.eglGetDisplay(ctypes.c_void_p(_EGL_DEFAULT_DISPLAY)))
    if egl.eglInitialize(default, None, None):
        return default
    get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(
        egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    )
    surfaceless = ctypes.c_void_p(get(_EGL_PLATFORM_SURFACELESS_MESA, None, None))
    if not egl.eglInitialize(surfaceless, None, None):
        raise RuntimeError("EGL does not start")
    return surfaceless


if __name__ == "__main__":
    sys.stdout.write(_renderer_of_egl() + "\n")
