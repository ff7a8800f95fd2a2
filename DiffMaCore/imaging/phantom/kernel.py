"""The renderer's inner loop: every voxel sampled several times in the head, each sample one tissue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from DiffMaCore.imaging.phantom import pathology as q
from DiffMaCore.imaging.phantom import splitting as m
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.lookup import is_empty, map_at, mm_at, noise_at, uniform, vector_at, vote

# positions in the array of parameters
(SKIN_MM, SCALP_FAT, FACE_FAT, FIBRES, SHEETS, FAT_SHARE, GROW, VENTRICLES, LEUKO, DURA_MM, FALX_MM) = range(11)
(TENT_MM, CELLS, MUCOSA_MM, BASE, MIDDLE, TEETH_Z, TEETH_Y, STEM_Y, PARAMETERS) = range(11, 20)

OUTSIDE, AIR, SOFT, WHITE, CORTEX = (x.label for x in (t.OUTSIDE, t.AIR, t.SOFT, t.WHITE, t.CORTEX))
VENTRICLE, CSF, CB_GREY, DEEP = (x.label for x in (t.VENTRICLE, t.CSF, t.CEREBELLAR_GREY, t.DEEP_GREY))
EYE, BONE, DIPLOE, SKIN, FAT = (x.label for x in (t.EYE, t.BONE, t.DIPLOE, t.SKIN, t.FAT))
MUSCLE, DURA, LENS, SCLERA = (x.label for x in (t.MUSCLE, t.DURA, t.LENS, t.SCLERA))
TOOTH, MUCOSA, CB_WHITE, UNSCANNED = (x.label for x in (t.TOOTH, t.MUCOSA, t.CEREBELLAR_WHITE, t.UNSCANNED))
WHITE_LESION, FIBROUS_FAT, FATTY_MUSCLE = (x.label for x in (t.WHITE_LESION, t.FIBROUS_FAT, t.FATTY_MUSCLE))
DEPTH, TO_BONE, TO_BRAIN, TO_GREY, TO_WHITE, TO_VENTRICLE = range(6)
FALX, TENTORIUM, MEMBRANE, ORBIT, MASTOID = m.FALX, m.TENTORIUM, m.MEMBRANE, m.ORBIT, m.MASTOID
_D, _B, _S = m.SCALES["depth"], m.SCALES["bone"], m.SIGNED


class Scene(NamedTuple):
    """A head and what this rendering makes of it.

    ``labels``, ``maps``, ``eyes`` of the head; ``near``: blocks that are not empty; ``p``: parameters; ``a``, ``b``:
    noise tiles; ``objects`` and ``replaces`` (``pathology``).
    """

    labels: NDArray[np.uint8]
    maps: NDArray[np.uint8]
    eyes: NDArray[np.float32]
    near: NDArray[np.bool_]
    p: NDArray[np.float32]
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    objects: NDArray[np.float32]
    replaces: NDArray[np.bool_]


class Look(NamedTuple):
    """``hu`` and its ``texture`` of tissues (HU); ``signal`` (contrasts, tissues) and its relative ``grain``."""

    hu: NDArray[np.float32]
    texture: NDArray[np.float32]
    signal: NDArray[np.float32]
    grain: NDArray[np.float32]


@njit(nogil=True, cache=True, fastmath=True)
def _soft(maps, p, a, b, z, y, x, at):
    """Skin, fat or muscle; the same left and right but for the deformation."""
    depth = mm_at(maps, DEPTH, at, _D)
    x = abs(x - p[MIDDLE])
    slow = noise_at(a, z / 14, y / 14, x / 14)
    if depth < p[SKIN_MM] * (1 + 0.15 * slow):
        return SKIN
    if map_at(maps, ORBIT, at) > 110:
        return FAT
    bone = mm_at(maps, TO_BONE, at, _B)
    low = min(max((p[BASE] + 15 - z) / 40, 0.0), 1.0)  # 0 on the calvaria, 1 at face and neck
    fat = (p[SCALP_FAT] + low * (p[FACE_FAT] - p[SCALP_FAT])) * (1 + 0.25 * noise_at(b, z / 20, y / 20, x / 20))
    under = depth - p[SKIN_MM]
    fibres = noise_at(a, z / 5 + 7, y / 2.6, x / 2.6)
    if under < fat and bone > 0.9 - 0.5 * low:
        return FIBROUS_FAT if fibres + 0.6 * slow > p[FIBRES] - 0.9 * low else FAT
    if bone < 0.8:
        return MUSCLE  # periosteum, galea, origin of a muscle
    sheet = p[SHEETS] * (0.5 + 0.5 * low + 0.7 * noise_at(b, z / 9, y / 9 + 30, x / 9))
    between = min(abs(noise_at(a, z / 16, y / 6 + 9, x / 6)), abs(noise_at(b, z / 22, y / 8, x / 8 + 5)))
    if between < 1.7 * sheet:
        return FAT if between < 0.8 * sheet else FIBROUS_FAT
    fatty = low * (noise_at(b, z / 13 + 20, y / 7, x / 7) + 0.4 * fibres + 0.5 + p[FAT_SHARE])
    if fatty > 1.4:
        return FAT if fatty > 2.0 else FIBROUS_FAT
    return FATTY_MUSCLE if fatty > 1.0 else MUSCLE


@njit(nogil=True, cache=True, fastmath=True)
def _csf(maps, p, at):
    """CSF, or dura, falx, tentorium, or the cortex that grows into it."""
    above = mm_at(maps, TENTORIUM, at, _S)
    z, y, x, wz, wy, wx = at
    zone = maps[z + int(wz + 0.5), y + int(wy + 0.5), x + int(wx + 0.5), MEMBRANE]
    if zone == 255:
        if abs(mm_at(maps, FALX, at, _S)) < p[FALX_MM]:
            return DURA
    elif zone == 128 and abs(above) < p[TENT_MM]:
        return DURA
    if mm_at(maps, TO_BONE, at, _B) < p[DURA_MM]:
        return DURA
    if p[GROW] > 0 and mm_at(maps, TO_GREY, at, _S) < p[GROW]:
        return CORTEX if above < 0 else CB_GREY
    return CSF


@njit(nogil=True, cache=True, fastmath=True)
def _bone(maps, p, a, label, z, y, x, at):
    """Bone, mastoid cells or teeth."""
    if map_at(maps, MASTOID, at) > 64 and mm_at(maps, TO_BONE, at, _B) < -1.3:
        return AIR if noise_at(a, z / 1.9, y / 1.9, x / 1.9) > p[CELLS] else BONE
    jaw = abs(z - p[TEETH_Z]) < 10 and abs(x - p[MIDDLE]) < 34 and -16 < y - p[TEETH_Y] < 40
    if jaw and noise_at(a, z / 6, y / 2.6, x / 2.6) > -0.35:
        return TOOTH
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _eye(eyes, label, z, y, x):
    """Vitreous, lens or sclera."""
    for k in range(eyes.shape[0]):
        dz, dy, dx = z - eyes[k, 0], y - eyes[k, 1], x - eyes[k, 2]
        r = eyes[k, 3]
        distance = dz * dz + dy * dy + dx * dx
        if distance < 4 * r * r:
            if (dz / 4.6) ** 2 + ((dy + 0.68 * r) / 2.1) ** 2 + (dx / 4.6) ** 2 < 1:
                return LENS
            if distance > (r - 1.2) ** 2:
                return SCLERA
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _objects(objects, replaces, active, maps, a, label, z, y, x, at):
    """What a lesion, a calcification or metal makes of a tissue."""
    for k in active:
        if k < 0:
            break
        o = objects[k]
        dz = (z - o[0]) / o[3]
        dy = (y - o[1]) / o[4]
        dx = (x - o[2]) / o[5]
        level = dz * dz + dy * dy + dx * dx
        if level > 2.6:
            continue
        small = min(o[3], min(o[4], o[5]))
        node = 0.45 * small + 0.8
        level = np.sqrt(level) + 0.35 * o[8] * noise_at(a, z / node, y / node + 11 * k, x / node)
        what = int(o[7])
        if what == q.BONE_RING:
            if abs(level - 1) < o[9] and (label in (BONE, DIPLOE)):
                label = int(o[6])
            continue
        if level > 1:
            continue
        if what == q.UNDER_BONE:
            ok = label in (CSF, CORTEX, WHITE, DURA)
            if ok and mm_at(maps, TO_BONE, at, _B) < o[9] * (1 - level * level):
                label = int(o[6])
        elif replaces[what, label]:
            label = int(o[6])
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _tissue(labels, maps, eyes, p, a, b, objects, replaces, active, names, shares, z, y, x):
    """The tissue at a position of the head (voxels of 1 mm)."""
    if z < 0:
        return UNSCANNED
    if not (z < labels.shape[0] - 1 and 0 <= y < labels.shape[1] - 1 and 0 <= x < labels.shape[2] - 1):
        return OUTSIDE
    z0, y0, x0 = int(z), int(y), int(x)
    at = (z0, y0, x0, np.float32(z - z0), np.float32(y - y0), np.float32(x - x0))
    label = labels[z0, y0, x0] if uniform(labels, at) else vote(labels, names, shares, at)
    if label == OUTSIDE:
        return OUTSIDE
    if label == AIR:
        if p[MUCOSA_MM] > 0 and z > p[TEETH_Z] + 12 and y < p[STEM_Y] - 25:
            thick = p[MUCOSA_MM] * (0.3 + noise_at(b, z / 7, y / 7, x / 7))
            if mm_at(maps, TO_BONE, at, _B) < thick:
                return MUCOSA
        return AIR
    if label == EYE:
        return _eye(eyes, label, z, y, x)
    if label == SOFT:
        label = _soft(maps, p, a, b, z, y, x, at)
    elif label == CSF:
        label = _csf(maps, p, at)
    elif label in (BONE, DIPLOE):
        label = _bone(maps, p, a, label, z, y, x, at)
    if label in (CORTEX, CB_GREY):
        if p[GROW] < 0:
            if mm_at(maps, TO_BRAIN, at, _S) > p[GROW]:
                label = CSF
        elif mm_at(maps, TO_WHITE, at, _S) < 0.6 * p[GROW]:
            label = WHITE if label == CORTEX else CB_WHITE
    elif label in (WHITE, DEEP) and max(p[VENTRICLES], p[LEUKO]) > 0:
        far = mm_at(maps, TO_VENTRICLE, at, _S) - p[VENTRICLES]
        if p[VENTRICLES] > 0 and far < 0:
            label = VENTRICLE
        elif label == WHITE and far < p[LEUKO] * (0.6 + 0.7 * noise_at(a, z / 5, y / 5, x / 5)):
            label = WHITE_LESION
    if active[0] < 0:
        return label
    return _objects(objects, replaces, active, maps, a, label, z, y, x, at)


@njit(nogil=True, cache=True, fastmath=True)
def _activate(objects, active, z, y, x, reach):
    """Note which objects may reach a voxel: their indices, then -1."""
    n = 0
    for k in range(objects.shape[0]):
        o = objects[k]
        close = abs(z - o[0]) < 1.62 * o[3] + reach and abs(y - o[1]) < 1.62 * o[4] + reach
        if close and abs(x - o[2]) < 1.62 * o[5] + reach:
            active[n] = k
            n += 1
    active[n] = -1


@njit(nogil=True, cache=True, fastmath=True)
def sample(scene, look, matrix, offset, field, node_mm, spacing, samples, out):
    """Render a grid.

    ``matrix``, ``offset``, ``field`` of a ``warp.Warp``; ``spacing`` (z, y, x) mm, ``samples`` a voxel along each axis.
    ``out``: fine CT (z * samples[0], y, x), MR (contrasts, z, y, x), and (z, y, x): the tissue that fills most of a
    voxel, uint8, and the share of it inside the head.
    """
    fine, mr, most, inside = out
    labels, maps, eyes, near, p, a, b, objects, replaces = scene
    hu, texture, signal, grain = look
    nz, ny, nx = most.shape
    kz, ky, kx = samples
    contrasts = signal.shape[0]
    per_slab, per_voxel = 1.0 / (ky * kx), 1.0 / (kz * ky * kx)
    counts, sums = np.zeros(hu.shape[0], np.int32), np.zeros(contrasts, np.float32)
    names, shares = np.empty(8, np.uint8), np.empty(8, np.float32)
    active = np.full(objects.shape[0] + 1, -1, np.int64)
    reach = 2.0 * max(spacing[0], spacing[1], spacing[2]) + 2.0
    middle_z, middle_y, middle_x = ((field.shape[1] - 1) / 2, (field.shape[2] - 1) / 2, (field.shape[3] - 1) / 2)
    for iz in range(nz):
        for iy in range(ny):
            for ix in range(nx):
                most[iz, iy, ix], inside[iz, iy, ix] = OUTSIDE, 0
                counts[:] = 0
                sums[:] = 0
                full = 0
                py, px = (iy - (ny - 1) / 2) * spacing[1], (ix - (nx - 1) / 2) * spacing[2]
                for sz in range(kz):
                    fine[iz * kz + sz, iy, ix] = hu[OUTSIDE]
                    pz = (iz - (nz - 1) / 2 + (sz + 0.5) / kz - 0.5) * spacing[0]
                    mz, my, mx = vector_at(
                        field, pz / node_mm + middle_z, py / node_mm + middle_y, px / node_mm + middle_x
                    )
                    mz += offset[0] + matrix[0, 0] * pz + matrix[0, 1] * py + matrix[0, 2] * px
                    my += offset[1] + matrix[1, 0] * pz + matrix[1, 1] * py + matrix[1, 2] * px
                    mx += offset[2] + matrix[2, 0] * pz + matrix[2, 1] * py + matrix[2, 2] * px
                    if mz >= 0 and is_empty(near, mz, my, mx):
                        counts[OUTSIDE] += ky * kx
                        continue
                    _activate(objects, active, mz, my, mx, reach)
                    ct = np.float32(0.0)
                    for sy in range(ky):
                        dy = ((sy + 0.5) / ky - 0.5) * spacing[1]
                        for sx in range(kx):
                            dx = ((sx + 0.5) / kx - 0.5) * spacing[2]
                            z = mz + matrix[0, 1] * dy + matrix[0, 2] * dx
                            y = my + matrix[1, 1] * dy + matrix[1, 2] * dx
                            x = mx + matrix[2, 1] * dy + matrix[2, 2] * dx
                            tissue = _tissue(
                                labels, maps, eyes, p, a, b, objects, replaces, active, names, shares, z, y, x
                            )
                            counts[tissue] += 1
                            ct += hu[tissue]
                            if tissue in (OUTSIDE, UNSCANNED):
                                continue
                            full += 1
                            noise = np.float32(0.0)
                            if texture[tissue] > 0:
                                noise = noise_at(b, z / 2.2, y / 2.2, x / 2.2)
                                ct += texture[tissue] * noise
                            for c in range(contrasts):
                                sums[c] += signal[c, tissue] * (1 - grain[tissue] * noise)
                    fine[iz * kz + sz, iy, ix] = ct * per_slab
                for c in range(contrasts):
                    mr[c, iz, iy, ix] = sums[c] * per_voxel
                if counts[OUTSIDE] < kz * ky * kx:
                    most[iz, iy, ix] = np.argmax(counts)
                    inside[iz, iy, ix] = full * per_voxel
